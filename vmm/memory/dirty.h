/* SPDX-License-Identifier: Apache-2.0
 *
 * What a guest changed of its memory. */
#ifndef FORKFS_MEMORY_DIRTY_H
#define FORKFS_MEMORY_DIRTY_H

#include "vmm/memory/extents.h"
#include "vmm/memory/memory_source.h"
#include "vmm/memory/region.h"

/* The pages that are not what they were at the start: of a private region those that were copied on write, but for those that `from` has of its own, were placed at the
 * start (NULL: none were) and are still the same; of a shared one those that differ from `from` (NULL: it began as zeros), by comparing: a page that was written to with
 * what it had is not among them. Only those are compared that were written, where the view is watched and that is noted. `*ret` must be
 * zeroed. Returns 0 or a negative errno, *ret then empty. May read all that is there: a worker's task. */
int memory_dirty(const struct region_view *v, struct memory_source *from, struct extents *ret);

#endif
