/* SPDX-License-Identifier: Apache-2.0
 *
 * What a program says of itself: its --version and the like. */
#ifndef FORKFS_PROGRAM_OUTPUT_H
#define FORKFS_PROGRAM_OUTPUT_H

#include <stddef.h>

#include "vmm/base/failure.h"

/* Runs `path` with two arguments at most, NULL: fewer, and gives the first n - 1 bytes that it printed, with a NUL. Takes seconds at most: a worker's task. Returns 0; -ENOENT
 * no such program; -ETIMEDOUT it didn't end; another negative errno. */
int program_output(const char *path, const char *arg1, const char *arg2, char *buf, size_t n, struct failure *why);

#endif
