/* SPDX-License-Identifier: Apache-2.0
 *
 * Which pages of another process are its own, the ones it copied on write; and which ones it wrote. Private to memory/. */
#ifndef FORKFS_MEMORY_PAGEMAP_H
#define FORKFS_MEMORY_PAGEMAP_H

#include "vmm/memory/extents.h"

#define PAGEMAP_RUNS 128

struct pagemap_run { /* the kernel's struct page_region (linux/fs.h since 6.7), which older headers lack */
	uint64_t start, end, categories;
};

enum pagemap_wanted {
	PAGEMAP_OWN,      /* copied on write, in memory or in swap */
	PAGEMAP_RESIDENT, /* those in memory alone: what a userfaultfd protected before it was ever touched looks as if it were in swap */
	PAGEMAP_WRITTEN,  /* since a userfaultfd with UFFD_FEATURE_WP_ASYNC protected them */
};

struct pagemap_walk {
	int fd;
	uint64_t at, end;
	enum pagemap_wanted wanted;
	bool by_entries; /* the kernel has no PAGEMAP_SCAN */
	struct pagemap_run runs[PAGEMAP_RUNS];
	size_t count, next;
};

/* Walks the addresses [start, end) of the process whose /proc/PID/pagemap is open as `fd`. w->by_entries may be set then: it does without PAGEMAP_SCAN even where
 * the kernel has it. */
void pagemap_walk_init(struct pagemap_walk *w, int fd, uint64_t start, uint64_t end, enum pagemap_wanted wanted);

/* The next run of such pages, by address; two of them may touch. Returns 1, 0 at the end, -ESRCH when the process is gone, another errno. PAGEMAP_WRITTEN: -EPERM such
 * a userfaultfd has not all of it, -ENOTTY the kernel can't tell. */
int pagemap_walk_next(struct pagemap_walk *w, struct extent *ret);

#endif
