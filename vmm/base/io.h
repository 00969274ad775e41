/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole files. */
#ifndef FORKFS_BASE_IO_H
#define FORKFS_BASE_IO_H

#include <stddef.h>

/* Reads a whole regular file of at most `max` bytes; the caller frees *ret, which has a NUL behind it. Returns 0, -EFBIG, -ENOMEM or another negative errno. */
int read_file(int fd, size_t max, char **ret, size_t *ret_size);

/* Writes all of it where fd stands. Returns 0 or a negative errno. */
int write_all(int fd, const char *data, size_t n);

#endif
