/* SPDX-License-Identifier: Apache-2.0
 *
 * Programs and libraries of our own that run inside a VMM's process: built beside the daemon or installed in its library directory. */
#ifndef FORKFS_HELPER_H
#define FORKFS_HELPER_H

#include "vmm/base/failure.h"

#define HELPER_PRELOAD "forkfs-preload.so"
#define HELPER_NULL "forkfs-null-vmm"

/* A sealed copy in memory, so that a VMM's uid needs no path to it: /proc/self/fd/N of the inherited descriptor is preloaded or executed.
 * Returns the close-on-exec descriptor; -EOPNOTSUPP with a sentence: there is none; another negative errno. May block. */
int helper_open(const char *name, struct failure *why);

#endif
