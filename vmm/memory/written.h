/* SPDX-License-Identifier: Apache-2.0
 *
 * Having the kernel note which pages of a mapping are written to: nobody waits for it, and nobody has to serve it (UFFD_FEATURE_WP_ASYNC, Linux 6.7). It takes the page
 * tables of the whole mapping, 2 MiB a GiB. Another userfaultfd can't have the mapping meanwhile. */
#ifndef FORKFS_MEMORY_WRITTEN_H
#define FORKFS_MEMORY_WRITTEN_H

#include <stdint.h>

#include "vmm/memory/uffd.h"

#define UFFD_FEATURES_WRITTEN ((uint64_t)(UFFD_FEATURES_CAPTURE | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC))

/* From now on; `uffd` has UFFD_FEATURES_WRITTEN, addresses are those of the process that made it. region_view_written() tells. Returns 0, or a negative errno of uffd.h
 * and nothing is noted. Takes milliseconds a GiB: a worker's task. */
int written_begin(int uffd, uint64_t at, uint64_t size);

/* What was noted is forgotten. */
void written_end(int uffd, uint64_t at, uint64_t size);

#endif
