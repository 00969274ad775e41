/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "vmm/base/log.h"
#include "vmm/process.h"

#define CPU_PERIOD 100000 /* µs */
#define REMOVE_NSEC 10000000
#define REMOVE_TRIES 100
#define MOVE_TRIES 10

static atomic_bool handed_on[CGROUP_CONTROLLERS]; /* by us */
static char daemon_name[NAME_MAX - 32];

/* --- where ------------------------------------------------------------------------------------------------------------------------- */

static int write_file(const char *dir, const char *name, const char *value)
{
	char path[PATH_MAX];
	AUTO_CLOSE int fd = -1;

	if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
		return -ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, value, strlen(value)) < 0 ? -errno : 0;
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
		if (!process_is_ours(pid))
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
	const struct cgroup_place *p = cgroup_place(c);
	char line[64];

	return p->v2 && cgroup_read_line(p->path, "cgroup.type", line, sizeof line) && move_ours(p->path, NULL) > 0;
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
			text_printf(t, "%s%s (v%d)", t->len > before ? ", " : "", cgroup_names[c], cgroup_place(c)->v2 ? 2 : 1);
	for (int c = 0; c < CGROUP_CONTROLLERS; c++)
		if (!cgroup_can((enum cgroup_controller)c))
			text_printf(t, "%snot %s", t->len > before ? ", " : "", cgroup_names[c]);
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
	snprintf(ret, PATH_MAX, "%.2000s/%.200s", cgroup_place(c)->path, daemon_name);
}

static void leaf_path(enum cgroup_controller c, char ret[PATH_MAX])
{
	snprintf(ret, PATH_MAX, "%.2000s/%.200s-daemon", cgroup_place(c)->path, daemon_name);
}

static bool is_handed_on(enum cgroup_controller c)
{
	char line[256];

	return cgroup_read_line(cgroup_place(c)->path, "cgroup.subtree_control", line, sizeof line) && cgroup_has_word(line, cgroup_names[c], " \n");
}

/* Out of the group `from`, with its VMMs that have none of their own. Returns 0, -EBUSY others are there, or another negative errno. */
static int go_aside(const char *from, const char *leaf)
{
	char line[32];
	int r;

	if (!cgroup_read_line(from, "cgroup.procs", line, sizeof line))
		return 0;
	r = make_dir(leaf);
	for (int i = 0; r == 0 && i < MOVE_TRIES; i++) { /* one may be started meanwhile */
		move_ours(from, leaf);
		if (!cgroup_read_line(from, "cgroup.procs", line, sizeof line))
			return 0;
	}
	return r < 0 ? r : -EBUSY;
}

/* A group that hands controllers on may have no process itself, but for the first of all, which has no type: the daemon goes into one beside those of its VMMs. Of some controllers the
 * kernel wouldn't refuse it, but make a group for threads of it, below which no process can be. */
static int hand_on(enum cgroup_controller c, const char *daemon, struct failure *why)
{
	char word[16], line[64], leaf[PATH_MAX];
	int r = 0;

	snprintf(word, sizeof word, "+%s", cgroup_names[c]);
	leaf_path(c, leaf);
	if (!is_handed_on(c)) {
		if (cgroup_read_line(cgroup_place(c)->path, "cgroup.type", line, sizeof line))
			r = go_aside(cgroup_place(c)->path, leaf);
		if (r == 0)
			r = write_file(cgroup_place(c)->path, "cgroup.subtree_control", word);
		handed_on[c] = handed_on[c] || r == 0;
	}
	if (r == -EBUSY)
		return fail(why, EBUSY, "control groups: processes that aren't the daemon's are in %s: start it in one of its own (systemd-run --scope -p Delegate=yes forkfs ...)",
			    cgroup_place(c)->path);
	if (r == 0)
		r = write_file(daemon, "cgroup.subtree_control", word);
	return r < 0 ? fail_errno(why, -r, "the control group %s", daemon) : 0;
}

static int set_limit(enum cgroup_controller c, const char *group, uint64_t limit)
{
	char value[48];

	snprintf(value, sizeof value, "%llu", (unsigned long long)limit);
	if (c == CGROUP_MEMORY)
		return write_file(group, cgroup_place(c)->v2 ? "memory.max" : "memory.limit_in_bytes", value);
	if (c == CGROUP_PIDS)
		return write_file(group, "pids.max", value);
	if (!cgroup_place(c)->v2) {
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
		if (made[other] >= 0 && !strcmp(cgroup_place(other)->path, cgroup_place(c)->path))
			return true;
	return false;
}

static int make_in(enum cgroup_controller c, const char *name, uint64_t limit, int made[CGROUP_PLACES], struct failure *why)
{
	char daemon[PATH_MAX], group[PATH_MAX + 80];
	int r;

	if (!cgroup_can(c))
		return fail(why, EOPNOTSUPP, "this host has no control groups for %s", cgroup_names[c]);
	daemon_path(c, daemon);
	snprintf(group, sizeof group, "%s/%.64s", daemon, name);
	r = make_dir(daemon);
	if (r < 0)
		return fail_errno(why, -r, "the control group %s", daemon);
	r = cgroup_place(c)->v2 ? hand_on(c, daemon, why) : 0;
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
		if (!cgroup_can((enum cgroup_controller)c))
			continue;
		snprintf(word, sizeof word, "-%s", cgroup_names[c]);
		if (handed_on[c] && write_file(cgroup_place(c)->path, "cgroup.subtree_control", word) == 0)
			handed_on[c] = false;
	}
	for (int c = 0; c < CGROUP_CONTROLLERS; c++) {
		if (!cgroup_can((enum cgroup_controller)c))
			continue;
		leaf_path((enum cgroup_controller)c, leaf);
		if (cgroup_place(c)->v2 && access(leaf, F_OK) == 0 && move_ours(leaf, cgroup_place(c)->path) == 0)
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
