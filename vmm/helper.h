/* SPDX-License-Identifier: Apache-2.0
 *
 * Programs and libraries of our own that run in other processes: built beside the daemon or installed in its library directory. */
#ifndef FORKFS_HELPER_H
#define FORKFS_HELPER_H

#include "vmm/base/failure.h"

#define HELPER_PRELOAD "forkfs-preload.so"
#define HELPER_KEEPER "forkfs-keeper"
#define HELPER_NULL "forkfs-null-vmm"

/* A descriptor that any user can preload or execute by /proc/self/fd/N, without a path to it: of the file, or of a sealed copy in memory where its mode lets only
 * some read it.
 * Returns the close-on-exec descriptor; -EOPNOTSUPP with a sentence: there is none; another negative errno. May block. */
int helper_open(const char *name, struct failure *why);

#endif
