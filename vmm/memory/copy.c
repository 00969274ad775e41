/* SPDX-License-Identifier: Apache-2.0
 *
 * Through a buffer that stays in the processor's cache: as fast as pwrite(2) out of a mapping of the source, without the SIGBUS that looking at such a
 * mapping costs when the source shrinks. */
#include "vmm/memory/copy.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/memory/extents.h"
#include "vmm/memory/whole.h"

#define CHUNK (256u << 10)
#define CACHE_LINE 64u

struct transfer {
	int (*read)(const struct transfer *t, void *buf, size_t n, uint64_t offset); /* all of it: 0 or a negative errno */
	int from;
	const struct region_view *view;
	int to;
	uint64_t size;
	const atomic_bool *cancelled;
	char *buffer;
	struct copy_stats stats;
	struct failure *why;
};

static int read_file(const struct transfer *t, void *buf, size_t n, uint64_t offset)
{
	return read_whole(t->from, buf, n, offset);
}

static int read_view(const struct transfer *t, void *buf, size_t n, uint64_t offset)
{
	ssize_t k = region_view_read(t->view, buf, n, offset);

	if (k < 0)
		return (int)k;
	return (size_t)k == n ? 0 : -EIO;
}

/* The first cache line tells most pages of data apart: more is read only of one that begins with zeros. */
static bool is_zero(const char *p, size_t n)
{
	static const char zeros[CACHE_LINE];

	if (n <= CACHE_LINE)
		return !memcmp(p, zeros, n);
	return !memcmp(p, zeros, CACHE_LINE) && !memcmp(p, p + CACHE_LINE, n - CACHE_LINE);
}

/* How many bytes from p on are pages of zeros, or are pages that are not. */
static size_t alike(const char *p, size_t n, bool *ret_zero)
{
	size_t done = 0;

	*ret_zero = is_zero(p, n < PAGE_BYTES ? n : PAGE_BYTES);
	do {
		done += n - done < PAGE_BYTES ? n - done : PAGE_BYTES;
	} while (done < n && is_zero(p + done, n - done < PAGE_BYTES ? n - done : PAGE_BYTES) == *ret_zero);
	return done;
}

static int copy_chunk(struct transfer *t, uint64_t offset, size_t n)
{
	int r = t->read(t, t->buffer, n, offset);

	if (r < 0)
		return fail_errno(t->why, -r, "reading guest RAM at %#llx", (unsigned long long)offset);
	for (size_t at = 0, run; at < n; at += run) {
		bool zero;

		run = alike(t->buffer + at, n - at, &zero);
		if (zero) {
			t->stats.zeros += run;
			continue;
		}
		r = write_whole(t->to, t->buffer + at, run, offset + at);
		if (r < 0)
			return fail_errno(t->why, -r, "writing guest RAM at %#llx", (unsigned long long)(offset + at));
		t->stats.copied += run;
	}
	return 0;
}

static int copy_extent(struct transfer *t, const struct extent *x)
{
	uint64_t end = x->end < t->size ? x->end : t->size;

	for (uint64_t at = x->start; at < end;) {
		size_t n = end - at < CHUNK ? end - at : CHUNK;
		int r;

		if (t->cancelled && atomic_load_explicit(t->cancelled, memory_order_relaxed))
			return fail(t->why, ECANCELED, "copying guest RAM was called off");
		r = copy_chunk(t, at, n);
		if (r < 0)
			return r;
		at += n;
	}
	return 0;
}

static int copy_extents(struct transfer *t, const struct extents *data)
{
	AUTO_FREE char *buffer = aligned_alloc(PAGE_BYTES, CHUNK);
	int r = 0;

	if (!buffer)
		return fail(t->why, ENOMEM, "no memory to copy guest RAM with");
	t->buffer = buffer;
	for (size_t i = 0; i < data->count && r == 0; i++)
		r = copy_extent(t, &data->list[i]);
	t->buffer = NULL;
	return r;
}

/* Where a file was cut off no data is found, which looks like a hole: hence its length is asked before and after. */
static int check_length(const struct transfer *t)
{
	struct stat st;

	if (fstat(t->from, &st))
		return fail_errno(t->why, errno, "the memory file");
	if (st.st_size < 0 || (uint64_t)st.st_size < t->size)
		return fail(t->why, EIO, "the memory file is truncated: it has %lld of %llu bytes", (long long)st.st_size,
			    (unsigned long long)t->size);
	return 0;
}

int memory_fill(int to, int from, uint64_t size, const atomic_bool *cancelled, struct copy_stats *stats, struct failure *why)
{
	struct transfer t = { .read = read_file, .from = from, .to = to, .size = size, .cancelled = cancelled, .why = why };
	AUTO_EXTENTS struct extents data = { 0 };
	int r = check_length(&t);

	if (r < 0)
		return r;
	r = extents_scan(&data, from, size);
	if (r < 0)
		return fail_errno(why, -r, "looking for data in the memory file");
	r = copy_extents(&t, &data);
	if (r == 0 || r == -EIO) {
		int whole = check_length(&t);

		r = whole < 0 ? whole : r;
	}
	if (r == 0 && stats)
		*stats = t.stats;
	return r;
}

int memory_save(int to, const struct region_view *from, const atomic_bool *cancelled, struct copy_stats *stats, struct failure *why)
{
	struct transfer t = { .read = read_view, .view = from, .to = to, .size = from->region->size, .cancelled = cancelled, .why = why };
	AUTO_EXTENTS struct extents data = { 0 };
	int r;

	if (ftruncate(to, (off_t)t.size))
		return fail_errno(why, errno, "a memory file of %llu bytes", (unsigned long long)t.size);
	r = region_view_extents(from, &data);
	if (r < 0)
		return fail_errno(why, -r, "looking for data in guest RAM");
	r = copy_extents(&t, &data);
	if (r == 0 && stats)
		*stats = t.stats;
	return r;
}
