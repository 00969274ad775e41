/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/minimal_root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "vmm/aside.h"
#include "vmm/base/text.h"

/* Where it is put together: a directory that every host has and from which nothing is taken. */
#define STAGE "/proc"

#define MADE_MAX 16 /* programs are few */
#define FIXED (MS_NOSUID | MS_NODEV)

enum kind { DIRECTORY, EMPTY_FILE, BIND };

/* Names are relative to the new root. */
struct part {
	enum kind kind;
	char *name;
	char *source;        /* of a BIND */
	unsigned long flags; /* of a BIND */
};

/* What it consists of; and which files these were. */
struct minimal_root {
	struct part *parts;
	size_t count, room;
	struct text key;
};

/* Those that were made: there is one for each program. Kept, for all of its processes. */
static struct {
	char *key;
	int ns;
} made[MADE_MAX];
static size_t made_next; /* which of them goes when there is one more */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* --- in the process that makes it ----------------------------------------------------------------------------------------------------- */

/* As little as the kernel can show: 5.8 and newer leave out all but processes, and those of others. */
static const char *const proc_options[] = { "hidepid=2,subset=pid", "hidepid=2", "" };

IN_CHILD static bool call_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *options)
{
	return syscall(SYS_mount, source, target, type, flags, options) == 0;
}

IN_CHILD static bool mount_proc(void)
{
	if (syscall(SYS_mkdirat, AT_FDCWD, "proc", 0755))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(proc_options); i++)
		if (call_mount("proc", "proc", "proc", FIXED | MS_NOEXEC | MS_RDONLY, proc_options[i]))
			return true;
	return false;
}

IN_CHILD static bool put(const struct part *p)
{
	long fd;

	switch (p->kind) {
	case DIRECTORY:
		return syscall(SYS_mkdirat, AT_FDCWD, p->name, 0755) == 0 || errno == EEXIST;
	case EMPTY_FILE:
		fd = syscall(SYS_openat, AT_FDCWD, p->name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		return fd >= 0 && syscall(SYS_close, fd) == 0;
	case BIND:
		return call_mount(p->source, p->name, NULL, MS_BIND | MS_REC, NULL) && call_mount(NULL, p->name, NULL, p->flags, NULL);
	}
	return false;
}

/* Returns NULL, or which step failed, with errno. */
IN_CHILD static const char *enter(const struct minimal_root *r)
{
	syscall(SYS_umask, 022); /* whoever a process becomes walks through the directories */
	if (syscall(SYS_unshare, CLONE_NEWNS) || !call_mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return "have mounts of its own";
	if (!call_mount("forkfs", STAGE, "tmpfs", FIXED, "mode=0755,size=1m") || syscall(SYS_chdir, STAGE))
		return "make a root directory";
	for (size_t i = 0; r && i < r->count; i++)
		if (!put(&r->parts[i]))
			return r->parts[i].name;
	if (!mount_proc())
		return "mount a /proc";
	/* The old root comes to lie upon the new one, and goes. */
	if (!call_mount(NULL, ".", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | FIXED, NULL) || syscall(SYS_pivot_root, ".", ".") || syscall(SYS_umount2, ".", MNT_DETACH) ||
	    syscall(SYS_chdir, "/"))
		return "change the root directory";
	return NULL;
}

/* --- making one ---------------------------------------------------------------------------------------------------------------------------- */

/* What parent and child share: the child runs in the parent's memory and with its descriptors. */
struct maker {
	const struct minimal_root *root; /* NULL: an empty one */
	int ns;
	const char *step;
	int error;
};

IN_CHILD static int make_in_child(void *data)
{
	struct maker *m = data;

	m->step = enter(m->root);
	if (!m->step) {
		m->ns = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
		if (m->ns < 0)
			m->step = "open its namespace";
	}
	m->error = errno;
	syscall(SYS_exit, 0);
	__builtin_unreachable();
}

/* Returns the descriptor of its mount namespace, or a negative errno. */
static int make(struct maker *m)
{
	int r = run_aside(make_in_child, m, 0);

	if (r == 0 && m->step)
		r = -m->error;
	return r < 0 ? r : m->ns;
}

static bool possible;

static void try(void)
{
	struct maker m = { .ns = -1 };
	int ns = getenv("FORKFS_NO_MINIMAL_ROOT") ? -EPERM : make(&m);

	possible = ns >= 0;
	close_fd(&ns);
}

bool minimal_root_can(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, try);
	return possible;
}

/* --- what it consists of ------------------------------------------------------------------------------------------------------------------ */

static int append(struct minimal_root *r, enum kind kind, const char *name, const char *source, unsigned long flags)
{
	struct part p = { kind, strdup(name), source ? strdup(source) : NULL, flags }, *more;

	if (r->count == r->room) {
		more = realloc(r->parts, (r->room + 32) * sizeof *more);
		if (more) {
			r->parts = more;
			r->room += 32;
		}
	}
	if (!p.name || (source && !p.source) || r->count == r->room) {
		free(p.name);
		free(p.source);
		return -ENOMEM;
	}
	r->parts[r->count++] = p;
	return 0;
}

/* Whether one that is bound already brings it along. */
static bool is_there(const struct minimal_root *r, const char *name)
{
	for (size_t i = 0; i < r->count; i++) {
		size_t n = strlen(r->parts[i].name);

		if (r->parts[i].kind == BIND && !strncmp(r->parts[i].name, name, n) && (!name[n] || name[n] == '/'))
			return true;
	}
	return false;
}

/* Binds `source` at the absolute path `at`, which has no "..", with the directories above it. */
static int bind(struct minimal_root *r, const char *source, const char *at, const struct stat *st)
{
	unsigned long flags = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | (S_ISCHR(st->st_mode) ? 0 : MS_NODEV);
	char name[PATH_MAX];
	int e = 0;

	at += strspn(at, "/");
	if ((size_t)snprintf(name, sizeof name, "%s", at) >= sizeof name)
		return -ENAMETOOLONG;
	if (!*name || is_there(r, name))
		return 0;
	for (char *slash = strchr(name, '/'); e == 0 && slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		e = append(r, DIRECTORY, name, NULL, 0);
		*slash = '/';
	}
	if (e == 0)
		e = append(r, S_ISDIR(st->st_mode) ? DIRECTORY : EMPTY_FILE, name, NULL, 0);
	return e == 0 ? append(r, BIND, name, source, flags) : e;
}

/* By the name that was given, and by that which a program finds itself under. */
static int add(struct minimal_root *r, const char *path)
{
	char real[PATH_MAX];
	struct stat st;
	int e;

	if (*path != '/' || !realpath(path, real) || stat(real, &st))
		return *path != '/' || errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	text_printf(&r->key, "%s=%s %llu:%llu\n", path, real, (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	e = bind(r, real, real, &st);
	return e < 0 || strstr(path, "/..") ? e : bind(r, real, path, &st);
}

static void finish(struct minimal_root *r)
{
	for (size_t i = 0; i < r->count; i++) {
		free(r->parts[i].name);
		free(r->parts[i].source);
	}
	free(r->parts);
	text_finish(&r->key);
}

static int duplicate(int ns, struct failure *why)
{
	int fd = fcntl(ns, F_DUPFD_CLOEXEC, 3);

	return fd < 0 ? fail_errno(why, errno, "a root directory for a VMM") : fd;
}

/* Returns a descriptor, the caller's, or a negative errno. Called with the lock. */
static int find_or_make(const struct minimal_root *r, struct failure *why)
{
	struct maker m = { .root = r, .ns = -1 };
	size_t at = made_next;
	char *key;
	int ns;

	for (size_t i = 0; i < MADE_MAX; i++)
		if (made[i].key && !strcmp(made[i].key, r->key.data))
			return duplicate(made[i].ns, why);
	ns = make(&m);
	if (ns < 0)
		return fail_errno(why, -ns, "a root directory for a VMM: %s", m.step ?: "a process");
	key = strdup(r->key.data);
	if (!key) {
		close_fd(&ns);
		return fail(why, ENOMEM, "no memory for a root directory");
	}
	if (made[at].key)
		close_fd(&made[at].ns);
	free(made[at].key);
	made[at].key = key;
	made[at].ns = ns;
	made_next = (at + 1) % MADE_MAX;
	return duplicate(ns, why);
}

int minimal_root_make(int *ret, const struct allow *list, size_t n, struct failure *why)
{
	struct minimal_root r = { 0 };
	int e = 0;

	*ret = -1;
	for (size_t i = 0; e == 0 && i < n; i++)
		if (list[i].path)
			e = add(&r, list[i].path);
	if (e == 0 && (r.key.failed || !r.key.data))
		e = -ENOMEM;
	if (e < 0) {
		finish(&r);
		return fail_errno(why, -e, "a root directory for a VMM");
	}
	pthread_mutex_lock(&lock);
	e = find_or_make(&r, why);
	pthread_mutex_unlock(&lock);
	finish(&r);
	*ret = e < 0 ? -1 : e;
	return e < 0 ? e : 0;
}

void minimal_root_forget(void)
{
	for (size_t i = 0; i < MADE_MAX; i++) {
		if (made[i].key)
			close_fd(&made[i].ns);
		free(made[i].key);
		made[i].key = NULL;
	}
}
