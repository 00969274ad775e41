/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/dirty.h"

#include <stdlib.h>
#include <string.h>

#include "vmm/base/cleanup.h"
#include "vmm/memory/whole.h"

#define CHUNK (256u << 10)

struct comparison {
	int memfd;
	struct memory_source *from;
	char *now, *then;
	struct extents *ret;
};

static int compare_chunk(const struct comparison *c, uint64_t offset, size_t n)
{
	int r = read_whole(c->memfd, c->now, n, offset);

	if (r == 0 && c->from)
		r = memory_source_read(c->from, c->then, n, offset);
	for (size_t at = 0; r == 0 && at < n; at += PAGE_BYTES)
		if (memcmp(c->now + at, c->then + at, PAGE_BYTES))
			r = extents_add(c->ret, offset + at, offset + at + PAGE_BYTES);
	return r;
}

/* What may differ: the pages that are known to be written, else all that are there. */
static int find_candidates(const struct region_view *v, struct extents *ret)
{
	int r = region_view_written(v, ret);

	if (r != -EPERM && r != -ENOTTY)
		return r;
	extents_finish(ret);
	return extents_scan(ret, v->region->fd, v->region->size);
}

static int compare_all(const struct comparison *c, const struct region_view *v)
{
	AUTO_EXTENTS struct extents there = { 0 };
	int r = find_candidates(v, &there);

	for (size_t i = 0; r == 0 && i < there.count; i++)
		for (uint64_t at = there.list[i].start; r == 0 && at < there.list[i].end; at += CHUNK)
			r = compare_chunk(c, at, there.list[i].end - at < CHUNK ? there.list[i].end - at : CHUNK);
	return r;
}

static int add_placed(const struct region_view *v, struct memory_source *from, struct extent x, char *now, char *then, struct extents *ret)
{
	for (uint64_t at = x.start; at < x.end; at += PAGE_BYTES) {
		ssize_t n = region_view_read(v, now, PAGE_BYTES, at);
		int r = n < 0 ? (int)n : memory_source_read(from, then, PAGE_BYTES, at);

		if (r == 0 && memcmp(now, then, PAGE_BYTES))
			r = extents_add(ret, at, at + PAGE_BYTES);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Both go by ascending address. */
static int sift_placed(const struct region_view *v, struct memory_source *from, const struct extents *own, char *buffer, struct extents *ret)
{
	struct extent placed = { 0, 0 };
	int r = 0;

	for (size_t i = 0; i < own->count; i++)
		for (uint64_t at = own->list[i].start, end = own->list[i].end, to; at < end; at = to) {
			if (placed.end <= at && (r = memory_source_own(from, at, &placed)) == 0)
				placed = (struct extent){ UINT64_MAX, UINT64_MAX };
			if (r < 0)
				return r;
			to = at < placed.start ? (placed.start < end ? placed.start : end) : (placed.end < end ? placed.end : end);
			r = at < placed.start ? extents_add(ret, at, to)
					      : add_placed(v, from, (struct extent){ at, to }, buffer, buffer + PAGE_BYTES, ret);
			if (r < 0)
				return r;
		}
	return 0;
}

static int private_dirty(const struct region_view *v, struct memory_source *from, struct extents *ret)
{
	AUTO_EXTENTS struct extents own = { 0 };
	AUTO_FREE char *buffer = NULL;
	int r;

	if (!from)
		return region_view_own(v, ret);
	buffer = malloc(2 * PAGE_BYTES);
	r = buffer ? region_view_own(v, &own) : -ENOMEM;
	if (r == 0)
		r = sift_placed(v, from, &own, buffer, ret);
	if (r < 0)
		extents_finish(ret);
	return r;
}

int memory_dirty(const struct region_view *v, struct memory_source *from, struct extents *ret)
{
	AUTO_FREE char *buffer = NULL;
	int r;

	if (v->region->kind == REGION_FILE)
		return private_dirty(v, from, ret);
	buffer = calloc(2, CHUNK);
	if (!buffer)
		return -ENOMEM;
	r = compare_all(&(struct comparison){ v->region->fd, from, buffer, buffer + CHUNK, ret }, v);
	if (r < 0)
		extents_finish(ret);
	return r;
}
