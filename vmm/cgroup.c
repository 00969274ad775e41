/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "vmm/base/log.h"

#define CPU_PERIOD 100000 /* µs */
#define REMOVE_NSEC 10000000
#define REMOVE_TRIES 100
#define MOVE_TRIES 10

static const char *const names[CGROUP_CONTROLLERS] = { "memory", "cpu", "pids" };

/* The group that the daemon is in, by which a controller can be had. */
static struct {
	char path[PATH_MAX / 2];
	bool v2;
	atomic_bool handed_on; /* by us */
} place[CGROUP_CONTROLLERS]; /* path "": not here */

static char daemon_name[NAME_MAX - 32];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* --- where ------------------------------------------------------------------------------------------------------------------------- */

static bool has_word(const char *list, const char *word, const char *separators)
{
	size_t n = strlen(word);

	for (const char *at = list; *at; at += strspn(at, separators)) {
		size_t len = strcspn(at, separators);

		if (len == n && !strncmp(at, word, n))
			return true;
		at += len;
	}
	return false;
}

static int write_file(const char *dir, const char *name, const char *value)
{
	char path[PATH_MAX];
	AUTO_CLOSE int fd = -1;

	if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
		return -ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

static bool read_line(const char *dir, const char *name, char *ret, size_t n)
{
	char path[PATH_MAX];
	FILE *f;
	bool got;

	if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
		return false;
	f = fopen(path, "re");
	got = f && fgets(ret, (int)n, f);
	if (f)
		fclose(f);
	return got;
}

/* The daemon's path in the hierarchy of that controller, "" of version 2's. */
static bool own_path(const char *controller, char *ret, size_t n)
{
	char line[PATH_MAX], *list, *path;
	FILE *f = fopen("/proc/self/cgroup", "re");
	bool found = false;

	while (f && !found && fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = '\0';
		list = strchr(line, ':');
		path = list ? strchr(list + 1, ':') : NULL;
		if (!path)
			continue;
		*path++ = '\0';
		found = *controller ? has_word(list + 1, controller, ",") : !list[1];
		if (found)
			snprintf(ret, n, "%s", strcmp(path, "/") ? path : "");
	}
	if (f)
		fclose(f);
	return found;
}

static void consider(enum cgroup_controller c, const char *mount, bool v2)
{
	char own[PATH_MAX / 4], line[1024], path[sizeof place[c].path];

	if (*place[c].path || !own_path(v2 ? "" : names[c], own, sizeof own) || snprintf(path, sizeof path, "%.1000s%s", mount, own) >= (int)sizeof path)
		return;
	if (access(path, W_OK) || (v2 && (!read_line(path, "cgroup.controllers", line, sizeof line) || !has_word(line, names[c], " \n"))))
		return;
	snprintf(place[c].path, sizeof place[c].path, "%s", path);
	place[c].v2 = v2;
}

/* "… MOUNTPOINT OPTIONS … - TYPE SOURCE SUPER": version 1 names its controllers in the last. */
static void look_at_mount(char *line)
{
	char *rest = strstr(line, " - "), mount[PATH_MAX / 4], type[32], super[256];

	if (!rest || sscanf(line, "%*s %*s %*s %*s %1023s", mount) != 1 || sscanf(rest, " - %31s %*s %255s", type, super) != 2)
		return;
	for (int c = 0; c < CGROUP_CONTROLLERS; c++)
		if (!strcmp(type, "cgroup2") || (!strcmp(type, "cgroup") && has_word(super, names[c], ",")))
			consider((enum cgroup_controller)c, mount, type[6]);
}

static void look(void)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[8192];

	while (f && fgets(line, sizeof line, f))
		look_at_mount(line);
	if (f)
		fclose(f);
}

bool cgroup_can(enum cgroup_controller c)
{
	pthread_once(&once, look);
	return *place[c].path;
}

static pid_t parent_of(pid_t pid)
{
	char dir[32], line[64];
	FILE *f;
	pid_t parent = 0;

	snprintf(dir, sizeof dir, "/proc/%d/status", (int)pid);
	f = fopen(dir, "re");
	while (f && !parent && fgets(line, sizeof line, f))
		sscanf(line, "PPid: %d", &parent);
	if (f)
		fclose(f);
	return parent;
}

/* Our own and our VMMs' move from the group to another, where there is one. Returns how many others there are, or a negative errno. */
static int move_ours(const char *from, const char *to)
{
	char path[PATH_MAX], line[32];
	int others = 0;
	FILE *f;

	snprintf(path, sizeof path, "%s/cgroup.procs", from);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof line, f)) {
		pid_t pid = atoi(line);

		line[strcspn(line, "\n")] = '\0';
		if (pid != getpid() && parent_of(pid) != getpid())
			others++;
		else if (to)
			write_file(to, "cgroup.procs", line); /* it may have ended */
	}
	fclose(f);
	return others;
}

/* A group of version 2's that has processes can't limit any below it, unless it is the first of all. */
static bool is_crowded(enum cgroup_controller c)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/cgroup.type", place[c].path);
	return *place[c].path && place[c].v2 && !access(path, F_OK) && move_ours(place[c].path, NULL) > 0;
}

bool cgroup_is_crowded(void)
{
	for (int c = 0; c < CGROUP_CONTROLLERS; c++)
		if (cgroup_can((enum cgroup_controller)c) && is_crowded((enum cgroup_controller)c))
			return true;
	return false;
}

void cgroup_describe(struct text *t)
{
	size_t before = t->len;

	for (int c = 0; c < CGROUP_CONTROLLERS; c++)
		if (cgroup_can((enum cgroup_controller)c))
			text_printf(t, "%s%s (v%d)", t->len > before ? ", " : "", names[c], place[c].v2 ? 2 : 1);
	for (int c = 0; c < CGROUP_CONTROLLERS; c++)
		if (!cgroup_can((enum cgroup_controller)c))
			text_printf(t, "%snot %s", t->len > before ? ", " : "", names[c]);
}

void cgroup_set_daemon(const char *name)
{
	snprintf(daemon_name, sizeof daemon_name, "forkfs-%s", name);
}

/* --- making -------------------------------------------------------------------------------------------------------------------------- */

static int make_dir(const char *path)
{
	return mkdir(path, 0755) && errno != EEXIST ? -errno : 0;
}

static void daemon_path(enum cgroup_controller c, char ret[PATH_MAX])
{
	snprintf(ret, PATH_MAX, "%.2000s/%.200s", place[c].path, daemon_name);
}

static void leaf_path(enum cgroup_controller c, char ret[PATH_MAX])
{
	snprintf(ret, PATH_MAX, "%.2000s/%.200s-daemon", place[c].path, daemon_name);
}

static bool is_handed_on(enum cgroup_controller c)
{
	char line[256];

	return read_line(place[c].path, "cgroup.subtree_control", line, sizeof line) && has_word(line, names[c], " \n");
}

/* A group that hands controllers on may have no process itself, but for the first of all: the daemon goes into one beside those of its VMMs, with those that have none. */
static int hand_on(enum cgroup_controller c, const char *daemon, struct failure *why)
{
	char word[16], leaf[PATH_MAX];
	int r = 0;

	snprintf(word, sizeof word, "+%s", names[c]);
	leaf_path(c, leaf);
	if (!is_handed_on(c)) {
		r = write_file(place[c].path, "cgroup.subtree_control", word);
		for (int i = 0; r == -EBUSY && i < MOVE_TRIES && make_dir(leaf) == 0; i++) { /* one may be started meanwhile */
			move_ours(place[c].path, leaf);
			r = write_file(place[c].path, "cgroup.subtree_control", word);
		}
		place[c].handed_on = place[c].handed_on || r == 0;
	}
	if (r == -EBUSY)
		return fail(why, EBUSY, "control groups: processes that aren't the daemon's are in %s: start it in one of its own (systemd-run --scope -p Delegate=yes forkfs ...)",
			    place[c].path);
	if (r == 0)
		r = write_file(daemon, "cgroup.subtree_control", word);
	return r < 0 ? fail_errno(why, -r, "the control group %s", daemon) : 0;
}

static int set_limit(enum cgroup_controller c, const char *group, uint64_t limit)
{
	char value[48];

	snprintf(value, sizeof value, "%llu", (unsigned long long)limit);
	if (c == CGROUP_MEMORY)
		return write_file(group, place[c].v2 ? "memory.max" : "memory.limit_in_bytes", value);
	if (c == CGROUP_PIDS)
		return write_file(group, "pids.max", value);
	if (!place[c].v2) {
		snprintf(value, sizeof value, "%llu", (unsigned long long)limit * CPU_PERIOD / 100);
		return write_file(group, "cpu.cfs_quota_us", value);
	}
	snprintf(value, sizeof value, "%llu %d", (unsigned long long)limit * CPU_PERIOD / 100, CPU_PERIOD);
	return write_file(group, "cpu.max", value);
}

/* `made` are those whose groups of this name are made: two controllers of one hierarchy have one. */
static bool is_made(enum cgroup_controller c, const int made[CGROUP_PLACES])
{
	for (int other = 0; other < (int)c; other++)
		if (made[other] >= 0 && !strcmp(place[other].path, place[c].path))
			return true;
	return false;
}

static int make_in(enum cgroup_controller c, const char *name, uint64_t limit, int made[CGROUP_PLACES], struct failure *why)
{
	char daemon[PATH_MAX], group[PATH_MAX + 80];
	int r;

	if (!cgroup_can(c))
		return fail(why, EOPNOTSUPP, "this host has no control groups for %s", names[c]);
	daemon_path(c, daemon);
	snprintf(group, sizeof group, "%s/%.64s", daemon, name);
	r = make_dir(daemon);
	if (r < 0)
		return fail_errno(why, -r, "the control group %s", daemon);
	r = place[c].v2 ? hand_on(c, daemon, why) : 0;
	if (r < 0)
		return r;
	if (!is_made(c, made) && mkdir(group, 0755)) /* one that is there already is another VM's */
		r = -errno;
	if (r == 0)
		r = set_limit(c, group, limit);
	if (r < 0)
		return fail_errno(why, -r, "the control group %s", group);
	snprintf(group + strlen(group), sizeof group - strlen(group), "/cgroup.procs");
	made[c] = open(group, O_WRONLY | O_CLOEXEC);
	return made[c] < 0 ? fail_errno(why, errno, "%s", group) : 0;
}

int cgroup_make(const char *name, const struct cgroup_limits *limits, int ret_procs[CGROUP_PLACES], struct failure *why)
{
	const uint64_t limit[CGROUP_CONTROLLERS] = { limits->memory, limits->cpu, limits->pids };
	int r = 0;

	for (int c = 0; c < CGROUP_CONTROLLERS; c++)
		ret_procs[c] = -1;
	for (int c = 0; c < CGROUP_CONTROLLERS && r == 0; c++)
		if (limit[c])
			r = make_in((enum cgroup_controller)c, name, limit[c], ret_procs, why);
	if (r == 0)
		return 0;
	for (int c = 0; c < CGROUP_CONTROLLERS; c++)
		close_fd(&ret_procs[c]);
	cgroup_remove(name);
	return r;
}

/* --- removing ------------------------------------------------------------------------------------------------------------------------ */

static void remove_dir(const char *path)
{
	const struct timespec moment = { .tv_nsec = REMOVE_NSEC };

	for (int i = 0; rmdir(path) && errno == EBUSY && i < REMOVE_TRIES; i++)
		nanosleep(&moment, NULL);
}

void cgroup_remove(const char *name)
{
	char daemon[PATH_MAX], group[PATH_MAX + 80];

	for (int c = 0; c < CGROUP_CONTROLLERS; c++) {
		if (!cgroup_can((enum cgroup_controller)c))
			continue;
		daemon_path((enum cgroup_controller)c, daemon);
		snprintf(group, sizeof group, "%s/%.64s", daemon, name);
		remove_dir(group);
	}
}

/* As it was: the daemon is where it was started, and what it handed on isn't any more. */
static void go_back(void)
{
	char word[16], leaf[PATH_MAX];

	for (int c = 0; c < CGROUP_CONTROLLERS; c++) {
		snprintf(word, sizeof word, "-%s", names[c]);
		if (place[c].handed_on && write_file(place[c].path, "cgroup.subtree_control", word) == 0)
			place[c].handed_on = false;
	}
	for (int c = 0; c < CGROUP_CONTROLLERS; c++) {
		leaf_path((enum cgroup_controller)c, leaf);
		if (*place[c].path && place[c].v2 && access(leaf, F_OK) == 0 && move_ours(leaf, place[c].path) == 0)
			rmdir(leaf);
	}
}

void cgroup_sweep(void)
{
	char daemon[PATH_MAX];
	bool swept = false;
	struct dirent *e;
	DIR *d;

	for (int c = 0; c < CGROUP_CONTROLLERS && *daemon_name; c++) {
		if (!cgroup_can((enum cgroup_controller)c))
			continue;
		daemon_path((enum cgroup_controller)c, daemon);
		d = opendir(daemon);
		while (d && (e = readdir(d)))
			if (e->d_type == DT_DIR && *e->d_name != '.')
				unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
		if (d)
			closedir(d);
		if (rmdir(daemon) == 0)
			swept = true;
	}
	if (swept)
		go_back();
}
