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

static int compare_all(const struct comparison *c, uint64_t size)
{
	AUTO_EXTENTS struct extents there = { 0 };
	int r = extents_scan(&there, c->memfd, size);

	for (size_t i = 0; r == 0 && i < there.count; i++)
		for (uint64_t at = there.list[i].start; r == 0 && at < there.list[i].end; at += CHUNK)
			r = compare_chunk(c, at, there.list[i].end - at < CHUNK ? there.list[i].end - at : CHUNK);
	return r;
}

int memory_dirty(const struct region_view *v, struct memory_source *from, struct extents *ret)
{
	AUTO_FREE char *buffer = NULL;
	int r;

	if (v->region->kind == REGION_FILE)
		return region_view_own(v, ret);
	buffer = calloc(2, CHUNK);
	if (!buffer)
		return -ENOMEM;
	r = compare_all(&(struct comparison){ v->region->fd, from, buffer, buffer + CHUNK, ret }, v->region->size);
	if (r < 0)
		extents_finish(ret);
	return r;
}
