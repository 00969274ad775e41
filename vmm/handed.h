/* SPDX-License-Identifier: Apache-2.0
 *
 * Descriptors that a VMM sends, which may be its guest's by now, or an accomplice's outside: a call on a file of somebody's own FUSE waits as long as that one likes, and so
 * does its close. */
#ifndef FORKFS_HANDED_H
#define FORKFS_HANDED_H

/* Takes `fd`. Returns it if it is a userfaultfd, else -1: it is closed, where nobody waits for that. */
int handed_uffd(int fd);

#endif
