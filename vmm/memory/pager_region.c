/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/epoll.h>

#include "vmm/memory/pager_private.h"
#include "vmm/memory/uffd.h"

#define MESSAGES 16
#define STEP (128u << 10) /* bytes placed at once in the background: what a demand fault may have to wait for */

static uint64_t page_of(uint64_t offset)
{
	return offset / PAGE_BYTES;
}

static void count(struct pager_region *r, uint64_t from, size_t n)
{
	page_bits_set_range(&r->there, page_of(from), page_of(from + n));
	atomic_fetch_add_explicit(&r->filled, n, memory_order_relaxed);
}

/* Places the pages of [from, to) but for those that are there. While there is a watch even zeros are copied: the kernel can't place a zero page
 * protected. Returns 0 or a negative errno. */
static int put(struct pager_region *r, const char *pages, uint64_t from, uint64_t to)
{
	uint64_t at = from, mode = r->watch ? UFFDIO_COPY_MODE_WP : 0, base = r->options.base;
	int e = 0;

	if (!pages && r->watch)
		pages = r->pager->zeros;
	while (at < to) {
		size_t done;

		if (pages)
			e = uffd_copy(r->options.uffd, base + at, pages + (at - from), to - at, mode, &done);
		else
			e = uffd_zeropage(r->options.uffd, base + at, to - at, &done);
		count(r, at, done);
		at += done;
		if (e == 0)
			break;
		if (e != -EEXIST)
			return e;
		page_bits_set(&r->there, page_of(at));
		at += PAGE_BYTES;
	}
	return 0;
}

static int source_data(const struct pager_region *r, uint64_t offset, uint64_t *ret_end)
{
	int data = 0;

	*ret_end = UINT64_MAX;
	if (r->options.source)
		data = memory_source_data(r->options.source, offset, ret_end);
	if (*ret_end > r->options.size)
		*ret_end = r->options.size;
	return data;
}

/* As put(), from the source. At most PAGER_CLUSTER_MAX bytes. */
static int fill(struct pager_region *r, uint64_t from, uint64_t to)
{
	int e = 0;

	while (e == 0 && from < to) {
		uint64_t end;
		int data = source_data(r, from, &end);

		if (data < 0)
			return data;
		if (end > to)
			end = to;
		if (data)
			e = memory_source_read(r->options.source, r->pager->buffer, end - from, from);
		if (e == 0)
			e = put(r, data ? r->pager->buffer : NULL, from, end);
		from = end;
	}
	return e;
}

void pager_region_break(struct pager_region *r, const struct failure *why)
{
	struct pager_watch *w = r->watch;

	if (r->broken)
		return;
	r->broken = true;
	r->filling = false;
	r->watch = NULL;
	if (w)
		w->broke(w, why);
	if (r->options.broke)
		r->options.broke(r->options.data, why);
}

static void break_at(struct pager_region *r, uint64_t offset, int e)
{
	struct failure why = { 0 };

	if (e == -ESRCH || e == -ENOENT)
		fail(&why, ESRCH, "the VMM is gone, or no longer maps its guest's RAM");
	else if (r->options.source && e != -ENOMEM && e != -ENOSPC)
		memory_source_explain(r->options.source, e, offset, &why);
	else
		fail_errno(&why, -e, "placing guest RAM at %#llx", (unsigned long long)offset);
	pager_region_break(r, &why);
}

/* The pages served together with the one at `offset`: of its cluster, alike data or hole, around it and not yet there. */
static int cluster_around(const struct pager_region *r, uint64_t offset, struct extent *ret)
{
	uint64_t at = offset - offset % r->options.cluster, limit = at + r->options.cluster, end;

	if (limit > r->options.size)
		limit = r->options.size;
	for (;;) {
		int data = source_data(r, at, &end);

		if (data < 0)
			return data;
		if (end > offset)
			break;
		at = end;
	}
	ret->start = offset;
	while (ret->start > at && !page_bits_test(&r->there, page_of(ret->start) - 1))
		ret->start -= PAGE_BYTES;
	limit = end < limit ? end : limit;
	ret->end = page_bits_next(&r->there, page_of(offset) + 1, page_of(limit), true) * PAGE_BYTES;
	return 0;
}

/* A page that was placed before and is missing again was given back by its VMM, and reads as zeros from then on. */
static int demand(struct pager_region *r, uint64_t offset)
{
	struct extent x;
	int e;

	if (page_bits_test(&r->there, page_of(offset)))
		return put(r, NULL, offset, offset + PAGE_BYTES);
	e = cluster_around(r, offset, &x);
	if (e < 0)
		return e;
	e = fill(r, x.start, x.end);
	/* A neighbour's page must not cost this one. */
	if (e < 0) {
		x = (struct extent){ offset, offset + PAGE_BYTES };
		e = page_bits_test(&r->there, page_of(offset)) ? 0 : fill(r, x.start, x.end);
	}
	if (e == 0 && r->options.demanded)
		page_bits_set_range(r->options.demanded, page_of(x.start), page_of(x.end));
	return e;
}

int pager_region_place(struct pager_region *r, uint64_t from, uint64_t to)
{
	int e = r->broken ? -EIO : 0;

	while (e == 0 && (from = page_bits_next(&r->there, page_of(from), page_of(to), false) * PAGE_BYTES) < to) {
		uint64_t end = page_bits_next(&r->there, page_of(from), page_of(to), true) * PAGE_BYTES;

		if (end > from + STEP)
			end = from + STEP;
		e = fill(r, from, end);
		from = end;
	}
	return e;
}

/* Who waits for a page that was there, or is to come later, is woken: it looks again. */
static void serve_missing(struct pager_region *r, uint64_t offset)
{
	int e;

	atomic_fetch_add_explicit(&r->faults, 1, memory_order_relaxed);
	if (r->broken)
		return;
	e = demand(r, offset);
	if (e < 0 && e != -EAGAIN)
		break_at(r, offset, e);
	else
		uffd_wake(r->options.uffd, r->options.base + offset, PAGE_BYTES);
}

/* Protection that nobody watches is what a capture has left. */
static void serve_write(struct pager_region *r, uint64_t offset)
{
	int e;

	atomic_fetch_add_explicit(&r->writes, 1, memory_order_relaxed);
	if (r->watch) {
		r->watch->wrote(r->watch, offset);
		return;
	}
	e = uffd_writeprotect(r->options.uffd, r->options.base + offset, PAGE_BYTES, false);
	if (e == -EAGAIN)
		uffd_wake(r->options.uffd, r->options.base + offset, PAGE_BYTES);
	else if (e < 0)
		break_at(r, offset, e);
}

static void serve_message(struct pager_region *r, const struct uffd_msg *m)
{
	uint64_t offset = (m->arg.pagefault.address & ~(uint64_t)(PAGE_BYTES - 1)) - r->options.base;

	if (m->event != UFFD_EVENT_PAGEFAULT || offset >= r->options.size)
		return;
	if (m->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP)
		serve_write(r, offset);
	else
		serve_missing(r, offset);
}

void pager_region_serve(struct pager_region *r, bool failed)
{
	struct uffd_msg messages[MESSAGES];
	int n = failed ? -EBADFD : uffd_read(r->options.uffd, messages, MESSAGES);

	/* A descriptor that can't be read, or that its process has made blocking, would be shown as ready for ever. */
	if (n < 0) {
		struct failure why;

		epoll_ctl(r->pager->epoll, EPOLL_CTL_DEL, r->options.uffd, NULL);
		fail(&why, ESRCH, "the VMM's userfaultfd can't be read any more: %s", strerrordesc_np(-n) ?: "unknown error");
		pager_region_break(r, &why);
	}
	for (int i = 0; i < n; i++)
		serve_message(r, &messages[i]);
}

/* The next bytes to be placed in the background, of what was named first and then of the source. Returns 1, 0 when there are none, or a negative errno. */
static int next_piece(struct pager_region *r, struct extent *ret)
{
	while (r->next_first < r->first.count) {
		const struct extent *x = &r->first.list[r->next_first];

		ret->start = r->cursor > x->start ? r->cursor : x->start;
		ret->end = x->end;
		if (ret->start < ret->end)
			return 1;
		if (++r->next_first == r->first.count)
			r->cursor = 0;
	}
	while (r->options.fill && r->options.source && r->cursor < r->options.size) {
		int data = source_data(r, r->cursor, &ret->end);

		ret->start = r->cursor;
		if (data)
			return data;
		r->cursor = ret->end;
	}
	return 0;
}

/* Pages that are known to be there are passed by. */
static int place_piece(struct pager_region *r, struct extent x)
{
	uint64_t from = page_bits_next(&r->there, page_of(x.start), page_of(x.end), false) * PAGE_BYTES, end = x.end;
	int e;

	if (end > from + STEP)
		end = from + STEP;
	end = page_bits_next(&r->there, page_of(from), page_of(end), true) * PAGE_BYTES;
	e = from < end ? fill(r, from, end) : 0;
	if (e == 0)
		r->cursor = end;
	return e;
}

static void fill_step(struct pager_region *r)
{
	struct extent x;
	int e = next_piece(r, &x);

	if (e > 0) {
		e = place_piece(r, x);
		if (e < 0 && e != -EAGAIN)
			break_at(r, x.start, e);
		return;
	}
	if (e < 0) {
		break_at(r, r->cursor, e);
		return;
	}
	r->filling = false;
	atomic_store_explicit(&r->complete, true, memory_order_release);
	if (r->options.filled)
		r->options.filled(r->options.data);
}

bool pager_region_step(struct pager_region *r)
{
	bool more = r->watch && r->watch->step && r->watch->step(r->watch);

	if (r->filling)
		fill_step(r);
	return r->filling || more;
}

void pager_region_work(struct pager_region *r)
{
	if (list_empty(&r->link))
		list_append(&r->pager->work, &r->link);
}

int pager_region_watch(struct pager_region *r, struct pager_watch *w)
{
	if (r->broken)
		return -EIO;
	if (r->watch)
		return -EBUSY;
	r->watch = w;
	r->guarded = true;
	return 0;
}

void pager_region_unwatch(struct pager_region *r)
{
	r->watch = NULL;
}

void pager_region_stats(const struct pager_region *r, struct pager_stats *ret)
{
	ret->faults = atomic_load_explicit(&r->faults, memory_order_relaxed);
	ret->writes = atomic_load_explicit(&r->writes, memory_order_relaxed);
	ret->filled = atomic_load_explicit(&r->filled, memory_order_relaxed);
	ret->complete = atomic_load_explicit(&r->complete, memory_order_acquire);
}

int pager_region_uffd(const struct pager_region *r)
{
	return r->options.uffd;
}

uint64_t pager_region_base(const struct pager_region *r)
{
	return r->options.base;
}

uint64_t pager_region_size(const struct pager_region *r)
{
	return r->options.size;
}
