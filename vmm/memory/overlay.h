/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory of a snapshot that is a few pages over another one: the file has data where it has pages of its own, pages of zeros among them; where it has a hole the page is
 * that of the memory under it. */
#ifndef FORKFS_MEMORY_OVERLAY_H
#define FORKFS_MEMORY_OVERLAY_H

#include "vmm/memory/memory_source.h"

/* `file` is duplicated and must not change any more; `under`, of the same size, gets a reference. Returns 0 and the caller's reference, or a negative errno. */
int overlay_create(struct memory_source **ret, int file, struct memory_source *under, struct failure *why);

#endif
