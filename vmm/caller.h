/* SPDX-License-Identifier: Apache-2.0
 *
 * Who asked. Paths are opened as that one would open them: with its uid, gid and groups, in its root directory, never through
 * /proc's magic links. */
#ifndef FORKFS_CALLER_H
#define FORKFS_CALLER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/base/failure.h"
#include "vmm/paths.h"

struct caller {
	atomic_uint refs;
	uid_t uid;
	gid_t gid;
	int group_count;
	gid_t *groups;
	int root; /* O_PATH, its root directory */
};

/* Reads the identity of thread `tid`, which waits for us in the kernel, and compares it with the uid and gid that the kernel named. Returns 0;
 * -EACCES the thread is outside our pid namespace (tid 0), has ended, or is no longer who it was; -ENOMEM. Loop only; never waits. */
int caller_create(struct caller **ret, pid_t tid, uid_t uid, gid_t gid, struct failure *why);
/* Any thread. */
struct caller *caller_ref(struct caller *c);
void caller_unref(struct caller *c);

/* Opens an absolute path as the caller: worker only. `path` without ".." components. What is opened is an O_PATH descriptor, so that nothing happens to a device or
 * FIFO before its type is known. Returns the descriptor; -EINVAL not absolute, a ".." in it, a magic link, into our own mount; else what openat2(2) says. */
int caller_open(const struct caller *c, const char *path, struct failure *why);

/* The same of a path that may lead into our mount. Returns as path_open(). */
int caller_look_up(const struct caller *c, const char *path, int *ret, struct path_inside *ret_inside, struct failure *why);

/* Whether the caller is allowed `what` (04 read, 02 write, 01 search) by a directory or file of that owner, group and mode. */
bool caller_is_allowed(const struct caller *c, uid_t uid, gid_t gid, mode_t mode, mode_t what);

/* As caller_open() for a name inside the directory `dir`; a symbolic link must stay beneath it. */
int caller_open_at(const struct caller *c, int dir, const char *name, struct failure *why);

/* Makes a readable descriptor from an O_PATH one, as the caller; only of a regular file. `name` is for the sentence. Returns the descriptor; -EINVAL a directory,
 * FIFO, device or socket; -EACCES. */
int caller_read(const struct caller *c, int path_fd, const char *name, struct failure *why);

/* Opens the directory `dir`, an O_PATH descriptor, for reading its entries, as the caller. Returns the descriptor, -ENOTDIR, -EACCES. */
int caller_read_dir(const struct caller *c, int dir, struct failure *why);

/* Puts `n` bytes into the file `name` of the directory `dir`, in the place of what was there, all or nothing (a file of another name, then rename). Mode 0644, whatever the
 * daemon's umask. Returns 0 or a negative errno. */
int caller_replace(const struct caller *c, int dir, const char *name, const void *data, size_t n);

#endif
