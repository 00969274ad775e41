/* SPDX-License-Identifier: Apache-2.0
 *
 * Moving whole memories, never densely: a hole stays a hole, and a page of zeros becomes one. */
#ifndef FORKFS_MEMORY_COPY_H
#define FORKFS_MEMORY_COPY_H

#include <stdatomic.h>

#include "vmm/memory/region.h"

struct copy_stats {
	uint64_t copied; /* bytes written */
	uint64_t zeros;  /* bytes found to be zero in data extents and left out */
};

/* Fills the fresh memfd `to` with all of `from`. Returns 0; -ECANCELED once *cancelled is set (NULL: never); what reading `from` gives; -ENOMEM, -ENOSPC.
 * `stats` may be NULL. */
int memory_fill(int to, struct memory_source *from, const atomic_bool *cancelled, struct copy_stats *stats, struct failure *why);

/* Writes what `from` sees into the empty file `to`, made `region->size` bytes long and sparse. Whoever calls keeps the guest stopped.
 * Returns as memory_fill(). */
int memory_save(int to, const struct region_view *from, const atomic_bool *cancelled, struct copy_stats *stats, struct failure *why);

#endif
