/* SPDX-License-Identifier: Apache-2.0
 *
 * A copy of a disk, for the one guest that writes it. */
#ifndef FORKFS_DISK_H
#define FORKFS_DISK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "vmm/caller.h"

struct disk_spec {
	const char *path;       /* of the disk, absolute: a regular file */
	const struct caller *as; /* who may read it */
	const char *dir;        /* where the copy is, without a name: it is gone with the descriptor */
	const atomic_bool *cancelled;
};

struct disk_copied {
	bool reflink;   /* it shares what neither has written to */
	uint64_t bytes; /* else: that were copied; holes stay holes */
};

/* Worker. Returns a descriptor for reading and writing, or a negative errno: -EINVAL it is no regular file; -ENOSPC there is no room; -ECANCELED; else what opening it says. */
int disk_copy(const struct disk_spec *spec, struct disk_copied *ret, struct failure *why);

#endif
