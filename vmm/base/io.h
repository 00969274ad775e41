/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole files, and parts of them. */
#ifndef FORKFS_BASE_IO_H
#define FORKFS_BASE_IO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Reads a whole regular file of at most `max` bytes; the caller frees *ret, which has a NUL behind it. Returns 0, -EFBIG, -ENOMEM or another negative errno. */
int read_file(int fd, size_t max, char **ret, size_t *ret_size);

/* Copies the bytes [at, end) of `from` to where `to` stands, whose offset moves; that of `from` doesn't. `cancelled`, looked at every few megabytes, may be NULL. Returns 0, -EIO where `from`
 * is shorter, -ECANCELED, or another negative errno. */
int copy_range(int to, int from, off_t at, off_t end, const atomic_bool *cancelled);

/* Writes all of it where fd stands. Returns 0 or a negative errno. */
int write_all(int fd, const char *data, size_t n);

/* A file with that text in place of the one of that name, if there is one: whoever reads it, and at any moment, finds the one or the other. Returns 0 or a negative errno, and
 * nothing has changed. */
int write_anew(int dir, const char *name, const char *text);

/* Calls `each` with every name in the directory `fd`, which it takes; -1 is one without names. Returns 0 or a negative errno. */
int each_name(int fd, void (*each)(int dir, const char *name, void *data), void *data);

#endif
