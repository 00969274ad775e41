/* SPDX-License-Identifier: Apache-2.0
 *
 * Finishing a live capture whose daemon died: what was not captured is protected still, and so as it was at the instant that was captured. */
#ifndef FORKFS_MEMORY_RESCUE_H
#define FORKFS_MEMORY_RESCUE_H

#include "vmm/memory/region.h"

/* Makes `file`, the capture's, open for reading and writing, whole. `view` as the capture had it, with the process's mapping at `base`; `pid` maps it. `delta`: only the process's own
 * pages are in the file. Nothing may have been unprotected since. Copies what is left: a worker's task, or that of a daemon that has no loop yet. Returns 0 or a negative errno. */
int capture_rescue(int file, const struct region_view *view, pid_t pid, uint64_t base, bool delta, struct failure *why);

#endif
