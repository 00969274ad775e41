/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/working_set.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD "forkfs working set 1\n"

struct working_set *working_set_ref(struct working_set *w)
{
	atomic_fetch_add_explicit(&w->refs, 1, memory_order_relaxed);
	return w;
}

void working_set_unref(struct working_set *w)
{
	if (!w || atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel) != 1)
		return;
	extents_finish(&w->pages);
	free(w);
}

/* Takes a line off the text, without its end. Returns false where there is no whole one. */
static bool take_line(const char **at, const char *end, char *buf, size_t size)
{
	const char *stop = memchr(*at, '\n', (size_t)(end - *at));
	size_t n = stop ? (size_t)(stop - *at) : 0;

	if (!stop || n >= size || memchr(*at, '\0', n))
		return false;
	memcpy(buf, *at, n);
	buf[n] = '\0';
	*at = stop + 1;
	return true;
}

static int parse_range(struct working_set *w, const char *line, uint64_t size)
{
	uint64_t offset, length, last = w->pages.count ? w->pages.list[w->pages.count - 1].end : 0;
	int end = 0;

	if (sscanf(line, "%" SCNu64 " %" SCNu64 "%n", &offset, &length, &end) != 2 || line[end] || !length || offset % PAGE_BYTES || length % PAGE_BYTES)
		return -EINVAL;
	if (offset < last || offset > size || length > size - offset)
		return -EINVAL;
	return extents_add(&w->pages, offset, offset + length);
}

static int parse_lines(struct working_set *w, const char *at, const char *end, const char *identity, uint64_t size, struct failure *why)
{
	char line[128], wanted[128];
	int r;

	snprintf(wanted, sizeof wanted, "memory %s %" PRIu64, identity, size);
	if (!take_line(&at, end, line, sizeof line) || strncmp(line, "memory ", 7))
		return fail(why, EINVAL, "a working set says first which memory it is of");
	if (strcmp(line, wanted))
		return fail(why, ESTALE, "the working set is one of another memory");
	while (take_line(&at, end, line, sizeof line)) {
		if (!strcmp(line, "end"))
			return at == end ? 0 : fail(why, EINVAL, "a working set goes on behind its end");
		r = parse_range(w, line, size);
		if (r < 0)
			return fail(why, -r, "a working set with the line \"%s\"", line);
	}
	return fail(why, EINVAL, "a working set without an end");
}

int working_set_parse(struct working_set **ret, const char *text, size_t n, const char *identity, uint64_t size, struct failure *why)
{
	struct working_set *w;
	int r;

	if (n < sizeof HEAD - 1 || memcmp(text, HEAD, sizeof HEAD - 1))
		return fail(why, EINVAL, "no working set of a format that is known");
	w = calloc(1, sizeof *w);
	if (!w)
		return fail(why, ENOMEM, "no memory for a working set");
	atomic_init(&w->refs, 1);
	r = parse_lines(w, text + sizeof HEAD - 1, text + n, identity, size, why);
	if (r < 0) {
		working_set_unref(w);
		return r;
	}
	*ret = w;
	return 0;
}

void working_set_print(const struct extents *pages, const char *identity, uint64_t size, struct text *ret)
{
	text_printf(ret, HEAD "memory %s %" PRIu64 "\n", identity, size);
	for (size_t i = 0; i < pages->count; i++)
		text_printf(ret, "%" PRIu64 " %" PRIu64 "\n", pages->list[i].start, pages->list[i].end - pages->list[i].start);
	text_puts(ret, "end\n");
}

int working_set_merge(struct extents *ret, const struct page_bits *bits, const struct working_set *old)
{
	AUTO_EXTENTS struct extents asked = { 0 };
	uint64_t from, to = 0;
	int r = 0;

	while (r == 0 && (from = page_bits_next(bits, to, bits->pages, true)) < bits->pages) {
		to = page_bits_next(bits, from, bits->pages, false);
		r = extents_add(&asked, from * PAGE_BYTES, to * PAGE_BYTES);
	}
	return r < 0 ? r : extents_union(ret, &asked, old ? &old->pages : &(struct extents){ 0 });
}
