/* SPDX-License-Identifier: Apache-2.0
 *
 * Which ranges of a memory hold data. Sorted, disjoint, never touching one another, all bounds multiples of the page size. */
#ifndef FORKFS_MEMORY_EXTENTS_H
#define FORKFS_MEMORY_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES 4096u

struct extent {
	uint64_t start, end; /* bytes, end excluded */
};

struct extents {
	struct extent *list;
	size_t count, size;
};

/* Adds [start, end), widened to whole pages. Ranges come in ascending order of start and may overlap what is there.
 * Returns 0, -EINVAL out of order or empty, -ENOMEM. */
int extents_add(struct extents *e, uint64_t start, uint64_t end);

/* The data ranges of the first `size` bytes of file `fd`, by SEEK_DATA and SEEK_HOLE; a file system that knows no holes gives one range.
 * Moves the offset of fd. `*ret` must be zeroed. Returns 0 or a negative errno, *ret then empty. */
int extents_scan(struct extents *ret, int fd, uint64_t size);

/* The union of two. `*ret` must be zeroed. Returns 0 or -ENOMEM. */
int extents_union(struct extents *ret, const struct extents *a, const struct extents *b);

/* The first range that ends behind `offset`, as an index; e->count when there is none. */
size_t extents_find(const struct extents *e, uint64_t offset);

uint64_t extents_bytes(const struct extents *e);
void extents_finish(struct extents *e);

#define AUTO_EXTENTS __attribute__((cleanup(extents_finish)))

#endif
