/* SPDX-License-Identifier: Apache-2.0
 *
 * What a successor needs of a fork, under the state directory: STATE/forks/SERIAL/ with record.json, console, log and the VMM's sockets. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/io.h"
#include "vmm/base/log.h"
#include "vmm/fork_private.h"
#include "vmm/fork_record.h"

#define RETRY_USEC 500000

int fork_dir_write(struct fork *f)
{
	AUTO_FREE char *json = NULL;
	struct fork_record record;
	int r;

	if (f->known == FORK_OF_LAUNCH)
		return 0;
	if (fork_record_take(&record, f) == 0)
		json = fork_record_print(&record);
	fork_record_finish(&record);
	r = json ? write_anew(f->dir, f->launch ? RECORD_OF_LAUNCH : RECORD, json) : -ENOMEM;
	if (r < 0)
		log_warn("fork %s: its record can't be written: %s", f->id, strerror(-r));
	return r;
}

static void launch_name(uint64_t launch, char name[40])
{
	snprintf(name, 40, LAUNCH_PREFIX "%llu", (unsigned long long)launch);
}

int fork_dir_commit(const struct forks *all, uint64_t launch)
{
	char name[40];
	AUTO_CLOSE int fd = -1;

	launch_name(launch, name);
	fd = openat(all->forks_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : 0;
}

bool fork_dir_committed(const struct forks *all, uint64_t launch)
{
	char name[40];

	launch_name(launch, name);
	return !faccessat(all->forks_fd, name, F_OK, 0);
}

void fork_dir_settle(struct fork *f)
{
	f->launch = 0;
	if (renameat(f->dir, RECORD_OF_LAUNCH, f->dir, RECORD) && errno != ENOENT)
		log_warn("fork %s: its record can't be given its name: %m", f->id);
}

void fork_dir_forget_launch(const struct forks *all, uint64_t launch)
{
	char name[40];

	launch_name(launch, name);
	unlinkat(all->forks_fd, name, 0);
}

void fork_dir_mark_removed(const struct fork *f)
{
	if (f->dir >= 0 && renameat(f->dir, RECORD, f->dir, RECORD_OF_REMOVED) && errno != ENOENT)
		log_warn("fork %s: its record can't be marked as that of a removed one: %m", f->id);
}

static void dir_name(const struct fork *f, char name[24])
{
	snprintf(name, 24, "%llu", (unsigned long long)f->serial);
}

int fork_dir_open(struct fork *f)
{
	char name[24];

	dir_name(f, name);
	f->dir = openat(f->all->forks_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return f->dir < 0 ? -errno : 0;
}

int fork_dir_create(struct fork *f, struct failure *why)
{
	char name[24];
	int r;

	dir_name(f, name);
	if (mkdirat(f->all->forks_fd, name, 0700))
		return fail_errno(why, errno, "fork %s: its state directory %s/forks/%s", f->id, f->all->state_path, name);
	r = fork_dir_open(f);
	if (r == 0)
		r = fork_dir_write(f);
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

static void remove_entry(int dir, const char *name, void *data)
{
	int *r = data;

	*r = remove_tree(dir, name) ?: *r;
}

int remove_tree(int parent, const char *name)
{
	int dir, r, left = 0;

	if (!unlinkat(parent, name, 0) || errno == ENOENT)
		return 0;
	dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = dir < 0 ? -errno : 0;
	if (r == 0)
		r = each_name(dir, remove_entry, &left) ?: left;
	if (!unlinkat(parent, name, AT_REMOVEDIR) || errno == ENOENT)
		return 0;
	r = r ?: -errno;
	log_warn("%s can't be removed from the state directory: %s", name, strerror(-r));
	return r;
}

static void dispose_run(struct job *job)
{
	struct fork *f = container_of(job, struct fork, disposal);
	char name[24];

	dir_name(f, name);
	f->remains = remove_tree(f->all->forks_fd, name) < 0;
}

static int on_retry(sd_event_source *source, uint64_t usec, void *data)
{
	struct fork *f = data;

	(void)source;
	(void)usec;
	f->deadline = sd_event_source_disable_unref(f->deadline);
	fork_dispose(f);
	return 0;
}

/* Descriptors or memory are wanted for it: they come again. Who ends doesn't wait for that. */
static bool dispose_later(struct fork *f)
{
	return f->remains && !f->all->ending && sd_event_add_time_relative(f->all->event, &f->deadline, CLOCK_MONOTONIC, RETRY_USEC, 0, on_retry, f) >= 0;
}

static void dispose_done(struct job *job)
{
	struct fork *f = container_of(job, struct fork, disposal);
	struct forks *all = f->all;

	if (dispose_later(f))
		return;
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
