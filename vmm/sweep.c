/* SPDX-License-Identifier: Apache-2.0
 *
 * What a daemon that died left under the state directory: its VMs are ended (told from strangers by their start time) and their files removed. */
#include <cjson/cJSON.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>

#include "vmm/base/io.h"
#include "vmm/base/log.h"
#include "vmm/fork_private.h"
#include "vmm/snapshot.h"

static double number_of(const cJSON *json, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);

	return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

/* Only when the process behind the descriptor is the one that was written down. */
static void end_process(pid_t pid, double start_time, const char *fork)
{
	AUTO_CLOSE int pidfd = pidfd_open(pid, 0);
	uint64_t start;

	if (pidfd < 0 || process_start_time(pid, &start) < 0 || (double)start != start_time)
		return;
	log_warn("fork %s of a daemon that died: its VM (pid %d) is ended", fork, pid);
	pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
}

static void sweep_fork(struct forks *all, const char *name)
{
	AUTO_FREE char *path = NULL, *data = NULL;
	AUTO_CLOSE int fd = -1;
	cJSON *json = NULL;
	size_t n;

	if (asprintf(&path, "%s/record.json", name) < 0)
		return;
	fd = openat(all->forks_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0 && read_file(fd, 1 << 20, &data, &n) == 0)
		json = cJSON_Parse(data);
	if (number_of(json, "pid") > 0)
		end_process((pid_t)number_of(json, "pid"), number_of(json, "start_time"),
			    cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "id")) ?: name);
	cJSON_Delete(json);
	remove_tree(all->forks_fd, name);
}

static void sweep_dir(struct forks *all, int fd, void (*each)(struct forks *, int dir, const char *name))
{
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		close_fd(&fd);
		return;
	}
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			each(all, dirfd(d), e->d_name);
	closedir(d);
}

static void each_fork(struct forks *all, int dir, const char *name)
{
	(void)dir;
	sweep_fork(all, name);
}

static void each_file(struct forks *all, int dir, const char *name)
{
	(void)all;
	remove_tree(dir, name);
}

void forks_sweep(struct forks *all)
{
	sweep_dir(all, openat(all->state_fd, "forks", O_RDONLY | O_DIRECTORY | O_CLOEXEC), each_fork);
	sweep_dir(all, openat(all->state_fd, "pool", O_RDONLY | O_DIRECTORY | O_CLOEXEC), each_file); /* their VMMs ended with that daemon */
	sweep_dir(all, open(all->memory_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), each_file);
}
