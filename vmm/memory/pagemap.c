/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/pagemap.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/base/cleanup.h"

/* The kernel's Documentation/admin-guide/mm/pagemap.rst, for headers before 6.7. */
struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define SCAN _IOWR('f', 16, struct scan_arg)
#define IS_WRITTEN (1u << 1)
#define IS_FILE (1u << 2)
#define IS_PRESENT (1u << 3)
#define IS_SWAPPED (1u << 4)
#define CHECK_ASYNC (1u << 1) /* a flag */

#define ENTRY_FILE (1ull << 61)
#define ENTRY_SWAPPED (1ull << 62)
#define ENTRY_PRESENT (1ull << 63)

void pagemap_walk_init(struct pagemap_walk *w, int fd, uint64_t start, uint64_t end, enum pagemap_wanted wanted)
{
	w->fd = fd;
	w->at = start;
	w->end = end;
	w->wanted = wanted;
	w->by_entries = false;
	w->count = w->next = 0;
}

/* Looks on from w->at. Returns 0 or a negative errno: -ENOTTY where the kernel can't. */
static int refill_by_scan(struct pagemap_walk *w)
{
	struct scan_arg arg = {
		.size = sizeof arg,
		.start = w->at,
		.end = w->end,
		.vec = (uintptr_t)w->runs,
		.vec_len = PAGEMAP_RUNS,
	};
	int n;

	if (w->wanted == PAGEMAP_WRITTEN) {
		arg.flags = CHECK_ASYNC;
		arg.category_mask = arg.return_mask = IS_WRITTEN;
	} else {
		arg.category_inverted = arg.category_mask = arg.return_mask = IS_FILE;
		arg.category_anyof_mask = IS_PRESENT | (w->wanted == PAGEMAP_OWN ? IS_SWAPPED : 0);
	}
	n = ioctl(w->fd, SCAN, &arg);
	if (n < 0)
		return -errno;
	if (arg.walk_end <= w->at)
		return -EIO;
	w->at = arg.walk_end;
	w->count = (size_t)n;
	return 0;
}

static bool is_private(const struct pagemap_walk *w, uint64_t entry)
{
	return !(entry & ENTRY_FILE) && (entry & (ENTRY_PRESENT | (w->wanted == PAGEMAP_OWN ? ENTRY_SWAPPED : 0)));
}

static int refill_by_entries(struct pagemap_walk *w)
{
	uint64_t entries[512];
	uint64_t pages = (w->end - w->at) / PAGE_BYTES;
	ssize_t n;

	if (pages > ARRAY_LEN(entries))
		pages = ARRAY_LEN(entries);
	n = pread(w->fd, entries, pages * sizeof *entries, (off_t)(w->at / PAGE_BYTES * sizeof *entries));
	if (n < 0)
		return -errno;
	if (n < (ssize_t)sizeof *entries)
		return -ESRCH;
	pages = (size_t)n / sizeof *entries;
	for (size_t i = 0; i < pages && w->count < PAGEMAP_RUNS; i++, w->at += PAGE_BYTES) {
		struct pagemap_run *last = w->count ? &w->runs[w->count - 1] : NULL;

		if (!is_private(w, entries[i]))
			continue;
		if (last && last->end == w->at)
			last->end += PAGE_BYTES;
		else
			w->runs[w->count++] = (struct pagemap_run){ w->at, w->at + PAGE_BYTES, 0 };
	}
	return 0;
}

static int refill(struct pagemap_walk *w)
{
	int r = -ENOTTY;

	w->count = w->next = 0;
	if (!w->by_entries)
		r = refill_by_scan(w);
	if (r != -ENOTTY || w->wanted == PAGEMAP_WRITTEN)
		return r;
	w->by_entries = true;
	return refill_by_entries(w);
}

/* PAGEMAP_SCAN finds nothing in the address space of a process that is gone, and calls that a success. */
static int check_alive(const struct pagemap_walk *w)
{
	uint64_t entry;
	ssize_t n = pread(w->fd, &entry, sizeof entry, (off_t)((w->end / PAGE_BYTES - 1) * sizeof entry));

	if (n < 0)
		return -errno;
	return n == sizeof entry ? 0 : -ESRCH;
}

int pagemap_walk_next(struct pagemap_walk *w, struct extent *ret)
{
	while (w->next == w->count) {
		int r;

		if (w->at >= w->end)
			return check_alive(w);
		r = refill(w);
		if (r < 0)
			return r;
	}
	*ret = (struct extent){ w->runs[w->next].start, w->runs[w->next].end };
	w->next++;
	return 1;
}
