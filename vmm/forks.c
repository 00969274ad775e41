/* SPDX-License-Identifier: Apache-2.0
 *
 * All forks of a daemon, and the state directory that they share. */
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "vmm/base/log.h"
#include "vmm/cgroup.h"
#include "vmm/confinement.h"
#include "vmm/fork_private.h"
#include "vmm/keeper.h"
#include "vmm/pool.h"
#include "vmm/settings.h"
#include "vmm/template.h"

#define THREADS 64

/* mkdir -p, the last part for us alone. */
static int make_dirs(const char *path)
{
	char part[PATH_MAX];

	if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part)
		return -ENAMETOOLONG;
	for (char *at = part + 1; (at = strchr(at, '/')); *at++ = '/') {
		*at = '\0';
		if (mkdir(part, 0755) && errno != EEXIST)
			return -errno;
	}
	return mkdir(part, 0700) && errno != EEXIST ? -errno : 0;
}

static int open_dir(const char *path, int *ret)
{
	AUTO_CLOSE int fd = -1;
	struct stat st;
	int r = make_dirs(path);

	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st))
		return -errno;
	if (st.st_uid != geteuid() || (st.st_mode & 022))
		return -EPERM;
	*ret = steal_fd(&fd);
	return 0;
}

/* Not flock(2): that would be held, too, by a process that a daemon was about to execute when it was killed. `fd` is the only descriptor of that file that we ever open, for the lock goes
 * with any. */
static int take_lock(int fd)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_SETLK, &whole) ? -errno : 0;
}

static int lock_state(struct forks *all, struct failure *why)
{
	int r = open_dir(all->state_path, &all->state_fd);

	if (r < 0)
		return fail_errno(why, -r, "the state directory %s (it must be ours and writable for nobody else)", all->state_path);
	all->lock_fd = openat(all->state_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (all->lock_fd < 0)
		return fail_errno(why, errno, "%s/lock", all->state_path);
	r = take_lock(all->lock_fd);
	if (r == -EACCES || r == -EAGAIN)
		return fail(why, EBUSY, "another daemon uses the state directory %s", all->state_path);
	if (r < 0)
		return fail_errno(why, -r, "%s/lock", all->state_path);
	if (mkdirat(all->state_fd, "forks", 0700) && errno != EEXIST)
		return fail_errno(why, errno, "%s/forks", all->state_path);
	all->forks_fd = openat(all->state_fd, "forks", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (all->forks_fd < 0)
		return fail_errno(why, errno, "%s/forks", all->state_path);
	r = keepers_open(all->state_fd, all->state_path);
	return r < 0 ? fail_errno(why, -r, "%s/kept", all->state_path) : 0;
}

static bool is_tmpfs(const char *path)
{
	struct statfs st;

	return !statfs(path, &st) && st.f_type == TMPFS_MAGIC && !access(path, W_OK);
}

/* FNV-1a: tells state directories apart whose last parts are the same. */
static uint64_t hash(const char *s)
{
	uint64_t h = 0xcbf29ce484222325;

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 0x100000001b3;
	return h;
}

/* Snapshots "in memory" are files on a tmpfs: a successor finds them again. Without one they are beside the rest of the state. */
static int make_memory_dir(struct forks *all, struct failure *why)
{
	const char *name = strrchr(all->state_path, '/') + 1;
	int r, fd = -1;

	if (is_tmpfs(all->state_path) || !is_tmpfs("/dev/shm"))
		snprintf(all->memory_path, sizeof all->memory_path, "%.200s/snapshots", all->state_path);
	else
		snprintf(all->memory_path, sizeof all->memory_path, "/dev/shm/forkfs-%.100s-%016llx", name,
			 (unsigned long long)hash(all->state_path));
	r = open_dir(all->memory_path, &fd);
	close_fd(&fd);
	return r < 0 ? fail_errno(why, -r, "the directory for snapshots %s", all->memory_path) : 0;
}

/* Told apart as the directories for snapshots are. */
static void name_groups(const struct forks *all)
{
	char name[128];

	snprintf(name, sizeof name, "%.60s-%016llx", strrchr(all->state_path, '/') + 1, (unsigned long long)hash(all->state_path));
	cgroup_set_daemon(name);
}

/* One for all VMMs, without an interface. */
static int empty_netns(void)
{
	AUTO_CLOSE int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int fd = -1;

	if (here >= 0 && !unshare(CLONE_NEWNET)) {
		fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
		if (setns(here, CLONE_NEWNET))
			log_error("the daemon can't go back to its network namespace: %m");
	}
	if (fd < 0)
		log_warn("no network namespace for the VMMs: %m");
	return fd;
}

static int alloc_forks(struct forks **ret, sd_event *event, const char *state_path)
{
	struct forks *all = calloc(1, sizeof *all);
	int r;

	if (!all)
		return -ENOMEM;
	all->state_fd = all->lock_fd = all->forks_fd = all->netns = -1;
	list_init(&all->list);
	list_init(&all->leaving);
	list_init(&all->listeners);
	events_init(&all->events);
	all->event = sd_event_ref(event);
	all->root = geteuid() == 0;
	all->owner = geteuid();
	all->next_serial = 2;
	snprintf(all->state_path, sizeof all->state_path, "%s", state_path);
	r = jobs_create(&all->jobs, event, THREADS);
	if (r < 0) {
		forks_destroy(all);
		return r;
	}
	template_free_by(all->jobs);
	keepers_end_by(all->jobs);
	*ret = all;
	return 0;
}

static void save_settings(const struct forks *all)
{
	int r = settings_write(all->state_fd, &all->started, &all->config);

	if (r < 0)
		log_warn("the settings can't be kept for the next daemon: %s", strerror(-r));
}

static void adopt_settings(struct forks *all)
{
	struct failure why;
	int r = settings_read(all->state_fd, &all->started, &all->config, &why);

	if (r == 0)
		save_settings(all); /* what this one was told is the later word from now on */
	else if (r != -ENOENT)
		log_warn("the settings of the former daemon are lost: %s", why.text);
}

int forks_configure(struct forks *all, enum config_id id, const char *value, struct failure *why)
{
	int r = config_set(&all->config, id, value, why);

	if (r == 0)
		save_settings(all);
	return r;
}

int forks_create(struct forks **ret, sd_event *event, const char *state_path, const struct config *config, struct failure *why)
{
	struct forks *all;
	int r = alloc_forks(&all, event, state_path);

	if (r < 0)
		return fail_errno(why, -r, "the daemon can't start");
	r = config_copy(&all->config, config, CONFIG_COUNT);
	if (r == 0)
		r = config_copy(&all->started, config, CONFIG_COUNT);
	r = r < 0 ? fail_errno(why, -r, "the daemon can't start") : lock_state(all, why);
	if (r == 0)
		adopt_settings(all);
	if (r == 0 && (r = events_keep(&all->events, all->state_fd, config_number(&all->config, CONFIG_EVENTS_MAX))) < 0)
		fail_errno(why, -r, "%s/events", state_path);
	if (r == 0)
		r = make_memory_dir(all, why);
	if (r == 0)
		r = caller_create(&all->self, getpid(), geteuid(), getegid(), why);
	if (r < 0) {
		forks_destroy(all);
		return r;
	}
	if (all->root)
		all->netns = empty_netns();
	name_groups(all);
	forks_adopt(all);
	cgroup_sweep(); /* of VMs that have ended */
	r = pool_create(&all->pool, all);
	if (r < 0) {
		forks_destroy(all);
		return fail_errno(why, -r, "the pool's directory %s/pool", state_path);
	}
	*ret = all;
	return 0;
}

void forks_end(struct forks *all)
{
	struct fork *f;

	all->ending = true;
	pool_end(all->pool);
	while ((f = list_first(&all->list, struct fork, link)))
		fork_remove(f);
}

void forks_keep(struct forks *all)
{
	all->ending = true;
	all->keeping = true;
	pool_end(all->pool);
}

static bool busy(const struct forks *all)
{
	const struct fork *f;

	list_for_each(f, &all->list, link)
		if (f->task || f->capture)
			return true;
	return false;
}

bool forks_gone(const struct forks *all)
{
	return (all->keeping ? !busy(all) : list_empty(&all->list)) && list_empty(&all->leaving) && pool_gone(all->pool);
}

void forks_leave(struct forks *all)
{
	struct fork *f;
	struct shot *s;

	keepers_leave();
	while ((f = list_first(&all->list, struct fork, link))) {
		list_remove(&f->link);
		while ((s = list_first(&f->shots, struct shot, link)))
			shot_leave(s);
		fork_leave(f);
	}
}

/* The directory "forkfs" that holds those of all mount points goes with the last of them. */
static void remove_parent(char *path)
{
	char *last = strrchr(path, '/');

	*last = '\0';
	if (!strcmp(strrchr(path, '/') ?: "", "/forkfs"))
		rmdir(path);
	*last = '/';
}

/* Only what is ours and empty goes. */
static void remove_state(struct forks *all)
{
	if (all->forks_fd < 0)
		return;
	unlinkat(all->state_fd, "forks", AT_REMOVEDIR);
	unlinkat(all->state_fd, "kept", AT_REMOVEDIR);
	rmdir(all->memory_path);
	unlinkat(all->state_fd, SETTINGS_FILE, 0);
	events_file_remove(all->state_fd);
	unlinkat(all->state_fd, "lock", 0);
	rmdir(all->state_path);
	remove_parent(all->state_path);
}

void forks_drain(struct forks *all)
{
	jobs_destroy(all->jobs);
	all->jobs = NULL;
	template_free_by(NULL);
	keepers_end_by(NULL);
}

void forks_destroy(struct forks *all)
{
	if (!all)
		return;
	forks_drain(all);
	pool_destroy(all->pool);
	template_forget(UINT64_MAX);
	keepers_close();
	cgroup_sweep();
	confinement_end();
	if (!all->keeping)
		remove_state(all);
	events_finish(&all->events);
	config_finish(&all->config);
	config_finish(&all->started);
	close_fd(&all->forks_fd);
	close_fd(&all->lock_fd);
	close_fd(&all->state_fd);
	close_fd(&all->netns);
	caller_unref(all->self);
	sd_event_unref(all->event);
	free(all);
}
