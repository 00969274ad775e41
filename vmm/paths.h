/* SPDX-License-Identifier: Apache-2.0
 *
 * Looking a path up without ever asking our own mount: a thread of ours that waits in the kernel for the loop's answer can't be killed, and when the daemon is, nobody is left to answer;
 * the kernel keeps the mount, and all who use it, waiting for ever. Any thread; with the thread's filesystem identity. */
#ifndef FORKFS_PATHS_H
#define FORKFS_PATHS_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#define PATH_OUTSIDE 0
#define PATH_INSIDE 1 /* it leads into our mount: the rest is for us to look up */

struct path_inside {
	ino_t entry; /* the first inode of ours: the root's, or that of a directory which is mounted elsewhere by itself */
	char rest[PATH_MAX]; /* of the path, without a leading slash */
};

/* Which device our mount is, 0: there is none yet. Loop. */
void paths_set_mount(dev_t mount);

/* Looks `path` up below the directory `root`, as openat2(2) with RESOLVE_IN_ROOT or, `beneath`, RESOLVE_BENEATH; never through a magic link. Returns PATH_OUTSIDE and *ret, an O_PATH
 * descriptor; PATH_INSIDE and *ret_inside; or a negative errno: -ELOOP too many links, or one of /proc's; -EXDEV it leads out. */
int path_open(int root, const char *path, bool beneath, int *ret, struct path_inside *ret_inside);

#endif
