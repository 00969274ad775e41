/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/caller.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "vmm/base/io.h"
#include "vmm/base/text.h"

/* The value behind "Key:" of a /proc/PID/status, or NULL. */
static const char *status_value(const char *status, const char *key)
{
	const char *at = strstr(status, key);

	return at ? at + strlen(key) : NULL;
}

static int read_groups(struct caller *c, const char *status)
{
	const char *at = status_value(status, "\nGroups:");
	int size = 0;
	char *end;

	for (; at; at = end) {
		unsigned long gid = strtoul(at, &end, 10);

		if (end == at || memchr(at, '\n', (size_t)(end - at)))
			break;
		if (c->group_count == size) {
			gid_t *more = reallocarray(c->groups, (size_t)(size ? size * 2 : 16), sizeof *more);

			if (!more)
				return -ENOMEM;
			c->groups = more;
			size = size ? size * 2 : 16;
		}
		c->groups[c->group_count++] = (gid_t)gid;
	}
	return 0;
}

static int read_status(int proc, struct text *ret)
{
	AUTO_CLOSE int fd = openat(proc, "status", O_RDONLY | O_CLOEXEC);
	char buf[4096];
	ssize_t n;

	if (fd < 0)
		return -errno;
	while ((n = read(fd, buf, sizeof buf)) > 0)
		text_append(ret, buf, (size_t)n);
	if (n < 0)
		return -errno;
	return ret->failed || !ret->len ? -ENOMEM : 0;
}

/* The fourth number of "Uid:" and "Gid:" is the one that the file system looks at. */
static bool same_identity(const char *status, uid_t uid, gid_t gid)
{
	const char *u = status_value(status, "\nUid:"), *g = status_value(status, "\nGid:");
	unsigned int fsuid, fsgid;

	if (!u || !g || sscanf(u, "%*u %*u %*u %u", &fsuid) != 1 || sscanf(g, "%*u %*u %*u %u", &fsgid) != 1)
		return false;
	return fsuid == uid && fsgid == gid;
}

/* `proc` stands for this very task: when it ends, looking through it fails, though its number may be another's by then.
 *
 * The kernel names uid and gid, but the groups and the root directory are found only now. A thread whose request we hold stands in the kernel until we answer, killed or not: it neither
 * ends, so that its number were another's, nor changes anything of itself, and no thread changes another's identity. (io_submit(2) would let it go on before: ops.c has that
 * switched off.) What comes by io_uring is asked for by a worker of the ring, whose groups are those that its maker had: to have given some up meanwhile takes a privilege, and a
 * process that had it and kept the ring could have kept a file descriptor as well. */
static int read_identity(struct caller *c, int proc, struct failure *why)
{
	AUTO_TEXT struct text status = { 0 };
	int r = read_status(proc, &status);

	if (r < 0 && r != -ENOENT && r != -ESRCH)
		return fail_errno(why, -r, "the caller can't be looked at");
	if (r < 0 || !same_identity(status.data, c->uid, c->gid))
		return fail(why, EACCES, "the caller has ended or changed its identity");
	if (read_groups(c, status.data) < 0)
		return fail(why, ENOMEM, "no memory for the caller's groups");
	c->root = openat(proc, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (c->root < 0)
		return fail_errno(why, errno == ENOENT || errno == ESRCH ? EACCES : errno, "the caller's root directory can't be opened");
	return 0;
}

int caller_create(struct caller **ret, pid_t tid, uid_t uid, gid_t gid, struct failure *why)
{
	AUTO_CLOSE int proc = -1;
	struct caller *c;
	char path[32];
	int r;

	if (tid <= 0)
		return fail(why, EACCES, "the caller is outside the daemon's pid namespace: its paths can't be opened as its own");
	snprintf(path, sizeof path, "/proc/%d", tid);
	proc = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (proc < 0)
		return fail_errno(why, errno == ENOENT || errno == ESRCH ? EACCES : errno, "the caller can't be looked at");
	c = calloc(1, sizeof *c);
	if (!c)
		return fail(why, ENOMEM, "no memory for the caller's identity");
	*c = (struct caller){ .refs = 1, .uid = uid, .gid = gid, .root = -1 };
	r = read_identity(c, proc, why);
	if (r < 0) {
		caller_unref(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct caller *caller_ref(struct caller *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void caller_unref(struct caller *c)
{
	if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return;
	close_fd(&c->root);
	free(c->groups);
	free(c);
}

/* Who this thread was. The raw calls, for libc's would change every thread of the daemon. */
struct mask {
	bool on;
	uid_t uid;
	gid_t gid;
	int group_count;
	gid_t groups[64];
};

static void unmask(struct mask *m)
{
	int saved = errno;

	if (!m->on)
		return;
	syscall(SYS_setfsuid, m->uid);
	syscall(SYS_setfsgid, m->gid);
	syscall(SYS_setgroups, m->group_count, m->groups);
	errno = saved;
}

static bool is_itself(const struct mask *m, const struct caller *c)
{
	return m->uid == c->uid && m->gid == c->gid && m->group_count == c->group_count &&
	       !memcmp(m->groups, c->groups ?: m->groups, (size_t)m->group_count * sizeof *m->groups);
}

/* This thread becomes the caller where files are concerned. */
static int mask(struct mask *m, const struct caller *c)
{
	*m = (struct mask){ .uid = geteuid(), .gid = getegid() };
	if (m->uid == c->uid && m->uid != 0)
		return 0;
	if (m->uid != 0)
		return -EACCES;
	m->group_count = getgroups((int)ARRAY_LEN(m->groups), m->groups);
	if (m->group_count < 0)
		return -errno;
	if (is_itself(m, c))
		return 0;
	if (syscall(SYS_setgroups, c->group_count, c->groups))
		return -errno;
	m->on = true;
	syscall(SYS_setfsgid, c->gid);
	syscall(SYS_setfsuid, c->uid);
	if ((uid_t)syscall(SYS_setfsuid, -1) != c->uid || (gid_t)syscall(SYS_setfsgid, -1) != c->gid) {
		unmask(m);
		return -EACCES;
	}
	return 0;
}

#define AS_CALLER __attribute__((cleanup(unmask)))

static bool climbs(const char *path)
{
	for (const char *at = path; (at = strstr(at, "..")); at += 2)
		if ((at == path || at[-1] == '/') && (!at[2] || at[2] == '/'))
			return true;
	return false;
}

int caller_look_up(const struct caller *c, const char *path, int *ret, struct path_inside *ret_inside, struct failure *why)
{
	AS_CALLER struct mask m = { 0 };
	int r;

	if (*path != '/')
		return fail(why, EINVAL, "%s: the path is not absolute", path);
	if (climbs(path))
		return fail(why, EINVAL, "%s: a path may not contain \"..\"", path);
	r = mask(&m, c);
	if (r < 0)
		return fail_errno(why, -r, "%s: can't act as uid %u", path, c->uid);
	path += strspn(path, "/");
	r = path_open(c->root, *path ? path : ".", false, ret, ret_inside);
	if (r == -ELOOP)
		return fail(why, EINVAL, "/%s: leads through one of /proc's magic links, or symbolic links without end", path);
	return r < 0 ? fail_errno(why, -r, "/%s", path) : r;
}

int caller_open(const struct caller *c, const char *path, struct failure *why)
{
	struct path_inside inside;
	int fd = -1, r = caller_look_up(c, path, &fd, &inside, why);

	if (r == PATH_INSIDE)
		return fail(why, EINVAL, "%s: is a file of this mount", path);
	return r < 0 ? r : fd;
}

int caller_open_at(const struct caller *c, int dir, const char *name, struct failure *why)
{
	AS_CALLER struct mask m = { 0 };
	struct path_inside inside;
	int fd = -1, r = mask(&m, c);

	if (r < 0)
		return fail_errno(why, -r, "%s: can't act as uid %u", name, c->uid);
	r = path_open(dir, name, true, &fd, &inside);
	if (r == -EXDEV || r == -ELOOP || r == PATH_INSIDE)
		return fail(why, EINVAL, "%s: a symbolic link that leads out of the directory", name);
	return r < 0 ? fail_errno(why, -r, "%s", name) : fd;
}

bool caller_is_allowed(const struct caller *c, uid_t uid, gid_t gid, mode_t mode, mode_t what)
{
	bool in_group = gid == c->gid;

	for (int i = 0; i < c->group_count && !in_group; i++)
		in_group = c->groups[i] == gid;
	if (c->uid == uid)
		mode >>= 6;
	else if (in_group)
		mode >>= 3;
	return !c->uid || (mode & what) == what;
}

static const char *type_name(mode_t mode)
{
	return S_ISDIR(mode) ? "a directory" : S_ISFIFO(mode) ? "a FIFO" : S_ISSOCK(mode) ? "a socket" : "a device";
}

int caller_read(const struct caller *c, int path_fd, const char *name, struct failure *why)
{
	AS_CALLER struct mask m = { 0 };
	char proc[32];
	struct stat st;
	int r;

	if (fstat(path_fd, &st))
		return fail_errno(why, errno, "%s", name);
	if (!S_ISREG(st.st_mode))
		return fail(why, EINVAL, "%s: is %s, not a regular file", name, type_name(st.st_mode));
	snprintf(proc, sizeof proc, "/proc/self/fd/%d", path_fd);
	r = mask(&m, c);
	if (r < 0)
		return fail_errno(why, -r, "%s: can't act as uid %u", name, c->uid);
	r = open(proc, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	return r < 0 ? fail_errno(why, errno, "%s", name) : r;
}

int caller_read_dir(const struct caller *c, int dir, struct failure *why)
{
	AS_CALLER struct mask m = { 0 };
	int r = mask(&m, c);

	if (r < 0)
		return fail_errno(why, -r, "can't act as uid %u", c->uid);
	r = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return r < 0 ? fail_errno(why, errno, "the directory can't be read") : r;
}

static int write_beside(int dir, const char *name, const void *data, size_t n)
{
	AUTO_CLOSE int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : write_all(fd, data, n);

	return r == 0 && fchmod(fd, 0644) ? -errno : r;
}

int caller_replace(const struct caller *c, int dir, const char *name, const void *data, size_t n)
{
	AS_CALLER struct mask m = { 0 };
	char beside[80];
	int r = mask(&m, c);

	if (r < 0)
		return r;
	snprintf(beside, sizeof beside, ".%.40s.%d.%d", name, (int)getpid(), (int)gettid());
	r = write_beside(dir, beside, data, n);
	if (r == 0 && renameat(dir, beside, dir, name))
		r = -errno;
	if (r < 0 && r != -EEXIST)
		unlinkat(dir, beside, 0);
	return r;
}
