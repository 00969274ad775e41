/* SPDX-License-Identifier: Apache-2.0
 *
 * As long as a path stays on one mount the kernel looks it up at once. Else it goes name by name, each by the descriptor of the directory before, and each is looked at before anything is
 * looked up in it: what a mount has to be asked for (statx(2) without AT_STATX_DONT_SYNC is) is never asked. */
#include "vmm/paths.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "vmm/base/cleanup.h"

#define DEPTH_MAX 256
#define LINKS_MAX 40 /* the kernel's own limit */

#ifndef ST_NOSYMFOLLOW
#define ST_NOSYMFOLLOW 0x2000 /* statfs(2) of a mount that follows no links */
#endif

static _Atomic dev_t own;

struct walk {
	int root;
	bool beneath;
	int up[DEPTH_MAX]; /* where ".." leads; the last one is where we are */
	size_t depth;
	unsigned int links;
	ino_t entry;
	char rest[PATH_MAX];
};

void paths_set_mount(dev_t mount)
{
	atomic_store(&own, mount);
}

static int here(const struct walk *w)
{
	return w->depth ? w->up[w->depth - 1] : w->root;
}

static void climb(struct walk *w)
{
	if (w->depth)
		close_fd(&w->up[--w->depth]);
}

static int descend(struct walk *w, int fd)
{
	if (w->depth == DEPTH_MAX)
		return -ENAMETOOLONG;
	w->up[w->depth++] = fd;
	return 0;
}

/* Takes the next name off the rest. Returns its length, 0: there is none. */
static size_t next_name(struct walk *w, char name[NAME_MAX + 1], int *ret_error)
{
	const char *at = w->rest + strspn(w->rest, "/");
	size_t n = strcspn(at, "/");

	*ret_error = n > NAME_MAX ? -ENAMETOOLONG : 0;
	if (!n || n > NAME_MAX)
		return 0;
	memcpy(name, at, n);
	name[n] = '\0';
	memmove(w->rest, at + n, strlen(at + n) + 1);
	return n;
}

/* As the kernel does where fs.protected_symlinks is set: in a directory that everybody may write a stranger's link isn't followed. */
static int may_follow(const struct walk *w, uid_t owner)
{
	struct statx dir;

	if (statx(here(w), "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MODE | STATX_UID, &dir))
		return -errno;
	if ((dir.stx_mode & (S_ISVTX | S_IWOTH)) != (S_ISVTX | S_IWOTH) || owner == dir.stx_uid || owner == (uid_t)setfsuid((uid_t)-1))
		return 0;
	return -EACCES;
}

static int follow(struct walk *w, int link, uid_t owner)
{
	char target[PATH_MAX], rest[PATH_MAX];
	struct statfs fs;
	ssize_t n;
	int r = may_follow(w, owner);

	if (r < 0)
		return r;
	if (++w->links > LINKS_MAX || fstatfs(link, &fs) || fs.f_type == PROC_SUPER_MAGIC || (fs.f_flags & ST_NOSYMFOLLOW))
		return -ELOOP;
	n = readlinkat(link, "", target, sizeof target - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	if (*target == '/' && w->beneath)
		return -EXDEV;
	while (*target == '/' && w->depth)
		climb(w);
	memcpy(rest, w->rest, sizeof rest);
	return snprintf(w->rest, sizeof w->rest, "%s%s", target, rest) >= (int)sizeof w->rest ? -ENAMETOOLONG : 0;
}

/* "." and "..": they are looked up in a directory as other names are, though we know where they lead, and that has to be allowed. */
static int step_back(struct walk *w, bool up)
{
	AUTO_CLOSE int fd = openat(here(w), ".", O_PATH | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (up && !w->depth && w->beneath)
		return -EXDEV;
	if (up)
		climb(w);
	return PATH_OUTSIDE;
}

/* Goes on by one name. Returns PATH_INSIDE when that was into our mount, PATH_OUTSIDE, or a negative errno. */
static int step(struct walk *w, const char *name)
{
	AUTO_CLOSE int fd = -1;
	struct statx st;
	int r;

	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return step_back(w, name[1]);
	fd = openat(here(w), name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_UID | STATX_INO, &st))
		return -errno;
	w->entry = (ino_t)st.stx_ino;
	if (makedev(st.stx_dev_major, st.stx_dev_minor) == atomic_load(&own))
		return PATH_INSIDE;
	if (S_ISLNK(st.stx_mode))
		return follow(w, fd, st.stx_uid);
	if (*w->rest && !S_ISDIR(st.stx_mode))
		return -ENOTDIR;
	r = descend(w, fd);
	if (r == 0)
		fd = -1;
	return r;
}

static int walk(struct walk *w, int *ret, struct path_inside *ret_inside)
{
	char name[NAME_MAX + 1];
	int r = PATH_OUTSIDE, e;

	while (r == PATH_OUTSIDE && next_name(w, name, &e))
		r = step(w, name);
	if (r == PATH_OUTSIDE)
		r = e;
	if (r == PATH_INSIDE) {
		ret_inside->entry = w->entry;
		snprintf(ret_inside->rest, sizeof ret_inside->rest, "%s", w->rest + strspn(w->rest, "/"));
	}
	if (r != PATH_OUTSIDE)
		return r;
	*ret = fcntl(here(w), F_DUPFD_CLOEXEC, 3);
	return *ret < 0 ? -errno : PATH_OUTSIDE;
}

static int by_name(int root, const char *path, bool beneath, int *ret, struct path_inside *ret_inside)
{
	struct walk w = { .root = root, .beneath = beneath };
	int r;

	if (snprintf(w.rest, sizeof w.rest, "%s", path) >= (int)sizeof w.rest)
		return -ENAMETOOLONG;
	r = walk(&w, ret, ret_inside);
	while (w.depth)
		climb(&w);
	return r;
}

int path_open(int root, const char *path, bool beneath, int *ret, struct path_inside *ret_inside)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV | (beneath ? RESOLVE_BENEATH : RESOLVE_IN_ROOT) };
	int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);

	if (fd >= 0)
		*ret = fd;
	/* EAGAIN: there was a "..", and something was renamed or mounted anywhere meanwhile. */
	return fd >= 0 ? PATH_OUTSIDE : errno == EXDEV || errno == EAGAIN ? by_name(root, path, beneath, ret, ret_inside) : -errno;
}
