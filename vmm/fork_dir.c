/* SPDX-License-Identifier: Apache-2.0
 *
 * What a successor needs of a fork, under the state directory: STATE/forks/SERIAL/ with record.json, console, log and the VMM's sockets. */
#include <cjson/cJSON.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/io.h"
#include "vmm/base/log.h"
#include "vmm/fork_private.h"

static void add_vm(cJSON *json, const struct fork *f)
{
	cJSON_AddNumberToObject(json, "pid", f->vm->process.pid);
	cJSON_AddNumberToObject(json, "start_time", (double)f->vm->process.start_time);
	cJSON_AddStringToObject(json, "driver", f->driver->name);
	cJSON_AddNumberToObject(json, "vm_uid", f->vm_uid);
	cJSON_AddStringToObject(json, "snapshot", f->snapshot);
	cJSON_AddNumberToObject(json, "restore_ms", f->restore_ms);
	cJSON_AddNumberToObject(json, "started", (double)f->started.tv_sec);
}

static char *print_record(const struct fork *f)
{
	cJSON *json = cJSON_CreateObject();
	AUTO_TEXT struct text recipe = { 0 };
	char *out;

	if (!json)
		return NULL;
	cJSON_AddNumberToObject(json, "format", 1);
	cJSON_AddStringToObject(json, "id", f->id);
	cJSON_AddNumberToObject(json, "uid", f->uid);
	cJSON_AddNumberToObject(json, "gid", f->gid);
	cJSON_AddNumberToObject(json, "mode", f->mode);
	cJSON_AddStringToObject(json, "state", fork_state_name(f->state));
	for (int i = 0; i < CONFIG_FORK_COUNT; i++)
		if (f->config.value[i])
			cJSON_AddStringToObject(json, config_keys[i].name, f->config.value[i]);
	if (f->vm && f->vm->process.pid) {
		add_vm(json, f);
		recipe_print(&f->recipe, &recipe);
		if (recipe.data)
			cJSON_AddItemToObject(json, "recipe", cJSON_Parse(recipe.data));
	}
	out = cJSON_PrintUnformatted(json);
	cJSON_Delete(json);
	return out;
}

static int write_whole(int dir, const char *name, const char *data)
{
	AUTO_CLOSE int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : write_all(fd, data, strlen(data));
}

int fork_dir_write(struct fork *f)
{
	AUTO_FREE char *json = print_record(f);
	int r = json ? write_whole(f->dir, "record.json.new", json) : -ENOMEM;

	if (r == 0 && renameat(f->dir, "record.json.new", f->dir, "record.json"))
		r = -errno;
	if (r < 0) {
		unlinkat(f->dir, "record.json.new", 0);
		log_warn("fork %s: its record can't be written: %s", f->id, strerror(-r));
	}
	return r;
}

static void dir_name(const struct fork *f, char name[24])
{
	snprintf(name, 24, "%llu", (unsigned long long)f->serial);
}

int fork_dir_create(struct fork *f, struct failure *why)
{
	char name[24];
	int r;

	dir_name(f, name);
	if (mkdirat(f->all->forks_fd, name, 0700))
		return fail_errno(why, errno, "fork %s: its state directory %s/forks/%s", f->id, f->all->state_path, name);
	f->dir = openat(f->all->forks_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = f->dir < 0 ? -errno : fork_dir_write(f);
	if (r < 0) {
		remove_tree(f->all->forks_fd, name);
		return fail_errno(why, -r, "fork %s: its record in %s/forks/%s", f->id, f->all->state_path, name);
	}
	return 0;
}

int fork_dir_record(int dir, const char *name, uid_t uid, struct failure *why)
{
	AUTO_CLOSE int fd = -1;

	unlinkat(dir, name, 0);
	fd = openat(dir, name, O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail_errno(why, errno, "its %s can't be made in the state directory", name);
	if (uid && fchown(fd, uid, (gid_t)-1))
		return fail_errno(why, errno, "its %s can't be given to user %u", name, uid);
	return steal_fd(&fd);
}

static void remove_entries(int dir)
{
	DIR *d = fdopendir(dir);
	struct dirent *e;

	if (!d) {
		close(dir);
		return;
	}
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			remove_tree(dirfd(d), e->d_name);
	closedir(d);
}

void remove_tree(int parent, const char *name)
{
	int dir;

	if (!unlinkat(parent, name, 0) || errno == ENOENT)
		return;
	dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir >= 0)
		remove_entries(dir);
	if (unlinkat(parent, name, AT_REMOVEDIR) && errno != ENOENT)
		log_warn("%s can't be removed from the state directory: %m", name);
}

static void dispose_run(struct job *job)
{
	struct fork *f = container_of(job, struct fork, disposal);
	char name[24];

	dir_name(f, name);
	remove_tree(f->all->forks_fd, name);
}

static void dispose_done(struct job *job)
{
	struct fork *f = container_of(job, struct fork, disposal);
	struct forks *all = f->all;

	list_remove(&f->link);
	f->gone = true;
	fork_event(f, (struct event_facts){ .what = "gone" });
	fork_give_back(f);
	fork_unref(f);
	signal_emit(&all->listeners);
}

void fork_dispose(struct fork *f)
{
	f->disposal.run = dispose_run;
	f->disposal.done = dispose_done;
	jobs_submit(f->all->jobs, &f->disposal);
}
