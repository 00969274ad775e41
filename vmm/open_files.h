/* SPDX-License-Identifier: Apache-2.0
 *
 * What a VMM that another daemon started has open, and taking it: all that its guest needs it keeps itself (pidfd_getfd(2)). Any thread. */
#ifndef FORKFS_OPEN_FILES_H
#define FORKFS_OPEN_FILES_H

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "vmm/process.h"

/* A file told by what it is, whatever its name. All zeros: none. */
struct file_id {
	dev_t dev;
	ino_t ino;
	struct timespec modified; /* one that was written to since is another one */
};

/* Returns 0 or a negative errno. */
int file_id_get(struct file_id *ret, int fd);

/* The descriptor of a file, close-on-exec, the caller's. Returns it; -ENOENT the process has it not, or it was written to; -EPERM we may not look into that process; another
 * negative errno. The open file, and so its offset, is shared with the process. `written`: it may have been written to. */
int open_files_take(const struct process *p, const struct file_id *id, bool written);

/* The number that a file has in there, as above. */
int open_files_find(const struct process *p, const struct file_id *id, bool written);

/* Takes hold of the process that has the file open for writing, other than this one. Looks at every process. Returns 0, -ESRCH there is none, or another negative errno. */
int open_files_find_writer(struct process *ret, const struct file_id *id);

/* Likewise its userfaultfd that has all bits of `with` and none of `without` (UFFD_FEATURE_). */
int open_files_take_uffd(const struct process *p, uint64_t with, uint64_t without);

/* Likewise an anonymous one, as readlink(2) of /proc/PID/fd names it: "anon_inode:seccomp notify". */
int open_files_take_anonymous(const struct process *p, const char *name);

#endif
