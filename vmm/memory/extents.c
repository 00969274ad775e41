/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/extents.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int append(struct extents *e, uint64_t start, uint64_t end)
{
	if (e->count == e->size) {
		size_t size = e->size ? e->size * 2 : 16;
		struct extent *list = reallocarray(e->list, size, sizeof *list);

		if (!list)
			return -ENOMEM;
		e->list = list;
		e->size = size;
	}
	e->list[e->count++] = (struct extent){ start, end };
	return 0;
}

int extents_add(struct extents *e, uint64_t start, uint64_t end)
{
	struct extent *last = e->count ? &e->list[e->count - 1] : NULL;

	if (start >= end || end > UINT64_MAX - PAGE_BYTES)
		return -EINVAL;
	start -= start % PAGE_BYTES;
	end += -end % PAGE_BYTES;
	if (last && start < last->start)
		return -EINVAL;
	if (!last || start > last->end)
		return append(e, start, end);
	if (end > last->end)
		last->end = end;
	return 0;
}

/* The next range of data at or behind `at`, cut at `size`. Returns 1, 0 where there is none, or a negative errno. */
static int next_data(int fd, uint64_t at, uint64_t size, struct extent *ret)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole;

	if (data < 0 && errno == ENXIO)
		return 0;
	if (data < 0 && (errno == EINVAL || errno == EOPNOTSUPP)) {
		*ret = (struct extent){ at, size };
		return 1;
	}
	if (data < 0)
		return -errno;
	if ((uint64_t)data >= size)
		return 0;
	hole = lseek(fd, data, SEEK_HOLE);
	if (hole < 0)
		return errno == ENXIO ? 0 : -errno;
	if (hole <= data)
		return -EIO;
	*ret = (struct extent){ (uint64_t)data, (uint64_t)hole < size ? (uint64_t)hole : size };
	return 1;
}

int extents_scan(struct extents *ret, int fd, uint64_t size)
{
	struct extent x = { 0, 0 };
	int r = 1;

	while (x.end < size) {
		r = next_data(fd, x.end, size, &x);
		if (r <= 0)
			break;
		r = extents_add(ret, x.start, x.end);
		if (r < 0)
			break;
	}
	if (r < 0)
		extents_finish(ret);
	return r < 0 ? r : 0;
}

int extents_union(struct extents *ret, const struct extents *a, const struct extents *b)
{
	size_t i = 0, j = 0;

	while (i < a->count || j < b->count) {
		bool from_a = j == b->count || (i < a->count && a->list[i].start <= b->list[j].start);
		const struct extent *x = from_a ? &a->list[i++] : &b->list[j++];

		if (extents_add(ret, x->start, x->end) < 0) {
			extents_finish(ret);
			return -ENOMEM;
		}
	}
	return 0;
}

size_t extents_find(const struct extents *e, uint64_t offset)
{
	size_t low = 0, high = e->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (e->list[middle].end > offset)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

uint64_t extents_bytes(const struct extents *e)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < e->count; i++)
		sum += e->list[i].end - e->list[i].start;
	return sum;
}

void extents_finish(struct extents *e)
{
	free(e->list);
	*e = (struct extents){ 0 };
}
