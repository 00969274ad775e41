/* SPDX-License-Identifier: Apache-2.0
 *
 * A page that is protected is copied, whether or not it was before: it is as it was. One that isn't has been captured, or was not the process's own at that instant; then the file has a
 * hole for it, or for its zeros. */
#include "vmm/memory/rescue.h"

#include <fcntl.h>
#include <stdio.h>

#include "vmm/memory/extents.h"
#include "vmm/memory/memory_source.h"
#include "vmm/memory/whole.h"

/* The kernel's Documentation/admin-guide/mm/pagemap.rst. */
#define ENTRY_PROTECTED (1ull << 57)
#define ENTRY_FILE (1ull << 61)
#define ENTRY_SWAPPED (1ull << 62)
#define ENTRY_PRESENT (1ull << 63)
#define ENTRIES 512u

struct rescue {
	const struct region_view *view;
	int file, pagemap;
	uint64_t base;
	bool delta;
	struct extents there; /* what the region's own file has */
	struct extents captured; /* what the capture's has */
	struct extents under;
	char page[PAGE_BYTES];
};

static bool has(const struct extents *e, uint64_t offset)
{
	size_t i = extents_find(e, offset);

	return i < e->count && e->list[i].start <= offset;
}

static int put(struct rescue *s, int r, uint64_t offset)
{
	return r < 0 ? r : write_whole(s->file, s->page, PAGE_BYTES, offset);
}

static int from_region(struct rescue *s, uint64_t offset)
{
	return put(s, read_whole(s->view->region->fd, s->page, PAGE_BYTES, offset), offset);
}

static int rescue_shared(struct rescue *s, uint64_t entry, uint64_t offset)
{
	if (has(&s->there, offset))
		return entry & ENTRY_PROTECTED ? from_region(s, offset) : 0;
	if (has(&s->captured, offset) || !has(&s->under, offset))
		return 0;
	return put(s, memory_source_read(s->view->under, s->page, PAGE_BYTES, offset), offset);
}

static int rescue_private(struct rescue *s, uint64_t entry, uint64_t offset)
{
	bool own = (entry & ENTRY_PRESENT) && !(entry & ENTRY_FILE);

	if (own && (entry & ENTRY_PROTECTED))
		return put(s, read_whole(s->view->mem, s->page, PAGE_BYTES, s->base + offset), offset);
	if (s->delta || has(&s->captured, offset) || !has(&s->there, offset))
		return 0;
	return from_region(s, offset);
}

static int rescue_entries(struct rescue *s, const uint64_t *entries, size_t n, uint64_t offset)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++, offset += PAGE_BYTES)
		r = s->view->region->kind == REGION_SHARED ? rescue_shared(s, entries[i], offset) : rescue_private(s, entries[i], offset);
	return r;
}

static int rescue_all(struct rescue *s)
{
	uint64_t entries[ENTRIES], size = s->view->region->size;
	int r = 0;

	for (uint64_t at = 0, n; r == 0 && at < size; at += n * PAGE_BYTES) {
		n = (size - at) / PAGE_BYTES < ENTRIES ? (size - at) / PAGE_BYTES : ENTRIES;
		r = read_whole(s->pagemap, entries, n * sizeof *entries, (s->base + at) / PAGE_BYTES * sizeof *entries);
		if (r == 0)
			r = rescue_entries(s, entries, n, at);
	}
	return r == -EIO ? -ESRCH : r;
}

/* A page in swap looks as one that was protected before it was ever touched. */
static int check_swap(pid_t pid, struct failure *why)
{
	unsigned long long kb = 1;
	char path[32], line[128];
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return fail_errno(why, errno, "%s", path);
	while (fgets(line, sizeof line, f) && sscanf(line, "VmSwap: %llu", &kb) != 1)
		;
	fclose(f);
	return kb ? fail(why, EIO, "some of the guest's pages are in swap") : 0;
}

static int look(struct rescue *s)
{
	const struct region *region = s->view->region;
	int r = extents_scan(&s->there, region->fd, region->size);

	if (r == 0)
		r = extents_scan(&s->captured, s->file, region->size);
	if (r == 0 && region->kind == REGION_SHARED && s->view->under)
		r = memory_source_extents(s->view->under, &s->under);
	return r;
}

int capture_rescue(int file, const struct region_view *view, pid_t pid, uint64_t base, bool delta, struct failure *why)
{
	struct rescue s = { .view = view, .file = file, .base = base, .delta = delta };
	char path[32];
	int r = view->region->kind == REGION_SHARED ? 0 : check_swap(pid, why);

	if (r < 0)
		return r;
	snprintf(path, sizeof path, "/proc/%d/pagemap", (int)pid);
	s.pagemap = open(path, O_RDONLY | O_CLOEXEC);
	r = s.pagemap < 0 ? -errno : look(&s);
	if (r == 0)
		r = rescue_all(&s);
	close_fd(&s.pagemap);
	extents_finish(&s.there);
	extents_finish(&s.captured);
	extents_finish(&s.under);
	return r < 0 ? fail_errno(why, -r, "what is left of the capture can't be had") : 0;
}
