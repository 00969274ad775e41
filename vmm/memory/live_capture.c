/* SPDX-License-Identifier: Apache-2.0
 *
 * What keeps it right: nothing is unprotected before it is copied and marked as such, in that order; what is placed meanwhile is placed protected (the
 * pager sees to that); and all of it happens on one thread. */
#include "vmm/memory/live_capture.h"

#include "vmm/memory/capture_image.h"
#include "vmm/memory/uffd.h"

#define ARM_BYTES (64ull << 20) /* protected by one call: its process can't map or unmap meanwhile */
#define HOLE_PAGES 2048u        /* unprotected by one call in the background, where there is nothing to copy */

enum state {
	IDLE,      /* watches nothing yet */
	ARMED,     /* protected; what is written is noted */
	CAPTURING, /* what is written is copied first */
	COMPLETE,
	FAILED,
	CANCELLED,
};

struct live_capture {
	struct pager_watch watch;
	struct pager_region *region;
	struct capture_image *image;
	char *buffer;
	uint64_t cluster; /* pages */
	void (*done)(void *data, int result, const struct failure *why);
	void *data;
	/* the pager's thread's own: */
	enum state state;
	int result;             /* why it is FAILED or CANCELLED */
	bool armed;             /* live_capture_arm() has come to its end: from now on done() tells of failures */
	struct failure why;     /* until then this does */
	bool settled;           /* the noted pages are in the image's bits */
	bool running;           /* in the background */
	uint64_t cursor;        /* pages; those before are captured */
	struct page_bits noted; /* unprotected before the stop */
	_Atomic uint64_t copied, total;
};

static uint64_t pages_of(const struct live_capture *c)
{
	return c->image->captured.pages;
}

static int protect(const struct live_capture *c, uint64_t from, uint64_t to, bool on)
{
	return uffd_writeprotect(pager_region_uffd(c->region), pager_region_base(c->region) + from * PAGE_BYTES, (to - from) * PAGE_BYTES, on);
}

/* Just before they are protected the process's own pages are looked for: afterwards those in swap can't be told from untouched ones. */
static int protect_all(const struct live_capture *c)
{
	uint64_t pages = pages_of(c);
	int r = 0;

	for (uint64_t at = 0, to; r == 0 && at < pages; at = to) {
		to = at + ARM_BYTES / PAGE_BYTES < pages ? at + ARM_BYTES / PAGE_BYTES : pages;
		r = capture_image_find_own(c->image, at, to, true);
		if (r == 0)
			r = protect(c, at, to, true);
	}
	return r;
}

/* Where not all of it can be unprotected nobody was woken: whoever waits there comes again, with its page alone. */
static void unprotect_all(const struct live_capture *c)
{
	uint64_t pages = pages_of(c);

	for (uint64_t at = 0, to; at < pages; at = to) {
		to = at + ARM_BYTES / PAGE_BYTES < pages ? at + ARM_BYTES / PAGE_BYTES : pages;
		if (protect(c, at, to, false) < 0)
			uffd_wake(pager_region_uffd(c->region), pager_region_base(c->region) + at * PAGE_BYTES, (to - at) * PAGE_BYTES);
	}
}

/* Readers of the image must know before the guest can write that what isn't captured is lost. */
static void end_as(struct live_capture *c, enum state state, int result)
{
	c->state = state;
	c->result = result;
	c->running = false;
	capture_image_end(c->image);
	unprotect_all(c);
}

static void give_up(struct live_capture *c, const struct failure *why)
{
	pager_region_unwatch(c->region);
	end_as(c, FAILED, -why->code);
	c->why = *why;
	if (c->armed)
		c->done(c->data, c->result, why);
}

static void fail_at(struct live_capture *c, uint64_t page, int r)
{
	struct failure why;

	if (r == -ESRCH || r == -ENOENT)
		fail(&why, ESRCH, "the VMM is gone, or no longer maps its guest's RAM");
	else
		fail_errno(&why, -r, "capturing guest RAM at %#llx", (unsigned long long)(page * PAGE_BYTES));
	give_up(c, &why);
}

static void complete(struct live_capture *c)
{
	c->state = COMPLETE;
	c->running = false;
	pager_region_unwatch(c->region);
	capture_image_end(c->image);
	c->done(c->data, 0, NULL);
}

/* The next noted pages, and the protected ones between them where that saves calls. */
static bool next_noted(const struct live_capture *c, uint64_t *from, uint64_t *to)
{
	uint64_t pages = pages_of(c), next;

	*from = page_bits_next(&c->noted, *to, pages, true);
	if (*from == pages)
		return false;
	for (next = *from; next < pages && next - *from < HOLE_PAGES; next = page_bits_next(&c->noted, *to, pages, true)) {
		if (next > *from && next - *to > 64)
			break;
		*to = page_bits_next(&c->noted, next, pages, false);
	}
	return true;
}

/* What was noted has been written, or was going to be. Of a private region it counts as the process's own without a look: a page that is in swap or on its way
 * to another place couldn't be told from an untouched one, and one that was not written after all reads the same by way of the process. Done behind the
 * stop, before anything is captured. */
static void settle(struct live_capture *c)
{
	struct capture_image *image = c->image;

	if (c->settled)
		return;
	page_bits_merge(&image->data, &c->noted);
	if (image->pagemap >= 0)
		page_bits_merge(&image->own, &c->noted);
	page_bits_merge(&image->data, &image->own);
	atomic_store_explicit(&c->total, page_bits_count(&image->data) * PAGE_BYTES, memory_order_relaxed);
	c->settled = true;
}

/* Copies, marks, unprotects the pages [from, to), none of which is captured and all of which are data or none; of data at most a cluster. */
static int capture_run(struct live_capture *c, uint64_t from, uint64_t to, bool data)
{
	size_t n = (to - from) * PAGE_BYTES;
	int r = 0;

	if (data)
		r = capture_image_read_guest(c->image, c->buffer, n, from * PAGE_BYTES);
	if (data && r == 0)
		r = capture_image_write(c->image, c->buffer, n, from * PAGE_BYTES);
	if (r < 0)
		return r;
	page_bits_set_range(&c->image->captured, from, to);
	if (data)
		atomic_fetch_add_explicit(&c->copied, n, memory_order_relaxed);
	return protect(c, from, to, false);
}

/* Captures what isn't of the pages [from, to). */
static int capture_range(struct live_capture *c, uint64_t from, uint64_t to)
{
	int r = 0;

	settle(c);
	while (r == 0 && (from = page_bits_next(&c->image->captured, from, to, false)) < to) {
		bool data = page_bits_test(&c->image->data, from);
		uint64_t run = page_bits_next(&c->image->data, from, to, !data);

		run = page_bits_next(&c->image->captured, from, run, true);
		if (data && run > from + c->cluster)
			run = from + c->cluster;
		r = capture_run(c, from, run, data);
		from = run;
	}
	return r;
}

static int capture_cluster(struct live_capture *c, uint64_t page)
{
	uint64_t from = page - page % c->cluster, to = from + c->cluster;

	return capture_range(c, from, to < pages_of(c) ? to : pages_of(c));
}

/* Whether it costs nothing to take the page for a written one: of a private region it would become one of its own. */
static bool may_note(const struct live_capture *c, uint64_t page)
{
	return c->image->pagemap < 0 || page_bits_test(&c->image->own, page);
}

/* Who writes to a page is about to write to those beside it, and has to wait for each that is protected. */
static int note(struct live_capture *c, uint64_t page)
{
	uint64_t first = page - page % c->cluster, end = first + c->cluster, from = page, to = page + 1;

	if (end > pages_of(c))
		end = pages_of(c);
	while (from > first && may_note(c, from - 1))
		from--;
	while (to < end && may_note(c, to))
		to++;
	page_bits_set_range(&c->noted, from, to);
	return protect(c, from, to, false);
}

/* A page that is captured already was placed since. */
static void wrote(struct pager_watch *w, uint64_t offset)
{
	struct live_capture *c = container_of(w, struct live_capture, watch);
	uint64_t page = offset / PAGE_BYTES;
	int r;

	if (c->state == ARMED)
		r = note(c, page);
	else if (page_bits_test(&c->image->captured, page))
		r = protect(c, page, page + 1, false);
	else
		r = capture_cluster(c, page);
	if (r == -EAGAIN)
		uffd_wake(pager_region_uffd(c->region), pager_region_base(c->region) + offset, PAGE_BYTES);
	else if (r < 0)
		fail_at(c, page, r);
}

/* How far one step goes: a cluster of data, or much of a hole. */
static uint64_t step_end(const struct live_capture *c, uint64_t from)
{
	uint64_t to = (from / c->cluster + 1) * c->cluster, hole = page_bits_next(&c->image->data, from, pages_of(c), true);

	if (hole > from + HOLE_PAGES)
		hole = from + HOLE_PAGES;
	to = hole > from ? hole : to;
	return to < pages_of(c) ? to : pages_of(c);
}

static bool step(struct pager_watch *w)
{
	struct live_capture *c = container_of(w, struct live_capture, watch);
	uint64_t from, pages = pages_of(c);
	int r;

	if (!c->running)
		return false;
	from = c->cursor = page_bits_next(&c->image->captured, c->cursor, pages, false);
	if (from == pages) {
		complete(c);
		return false;
	}
	r = capture_range(c, from, step_end(c, from));
	if (r < 0 && r != -EAGAIN)
		fail_at(c, from, r);
	return c->running;
}

static void broke(struct pager_watch *w, const struct failure *why)
{
	give_up(container_of(w, struct live_capture, watch), why);
}

struct request {
	struct live_capture *c;
	uint64_t from, to;
	int result;
};

static int ask(struct live_capture *c, void (*fn)(void *), uint64_t from, uint64_t to)
{
	struct request q = { c, from, to, 0 };

	pager_call(c->region, fn, &q);
	return q.result;
}

/* From now on pages are placed protected, which the region must be registered for: the first one tells. */
static void begin(void *data)
{
	struct request *q = data;
	struct live_capture *c = q->c;

	q->result = pager_region_watch(c->region, &c->watch);
	if (q->result < 0)
		return;
	q->result = protect(c, 0, 1, false);
	if (q->result < 0)
		pager_region_unwatch(c->region);
	else
		c->state = ARMED;
}

static void finish_arming(void *data)
{
	struct request *q = data;

	q->c->armed = q->c->state == ARMED;
	q->result = q->c->result;
}

/* -EAGAIN is as good as a failure here: it was tried often enough. */
static void stop(void *data)
{
	struct request *q = data;
	struct live_capture *c = q->c;
	uint64_t from = 0, to = 0;
	int r = 0;

	while (c->state == ARMED && r == 0 && next_noted(c, &from, &to))
		r = protect(c, from, to, true);
	if (r < 0)
		fail_at(c, from, r);
	else if (c->state == ARMED)
		c->state = CAPTURING;
	q->result = c->result;
}

static void run(void *data)
{
	struct request *q = data;
	struct live_capture *c = q->c;

	if (c->state == CAPTURING) {
		settle(c);
		c->running = true;
		pager_region_work(c->region);
	}
	q->result = c->result;
}

static void claim(void *data)
{
	struct request *q = data;
	struct live_capture *c = q->c;
	int r = 0;

	if (c->state == ARMED) {
		page_bits_set_range(&c->noted, q->from, q->to);
		r = protect(c, q->from, q->to, false);
	} else if (c->state == CAPTURING) {
		r = capture_range(c, q->from, q->to);
	}
	if (r < 0)
		fail_at(c, q->from, r);
	q->result = c->result;
}

static void cancel(void *data)
{
	struct request *q = data;
	struct live_capture *c = q->c;

	if (c->state != ARMED && c->state != CAPTURING)
		return;
	pager_region_unwatch(c->region);
	end_as(c, CANCELLED, -ECANCELED);
}

int live_capture_stop(struct live_capture *c)
{
	return ask(c, stop, 0, 0);
}

int live_capture_run(struct live_capture *c)
{
	return ask(c, run, 0, 0);
}

int live_capture_claim(struct live_capture *c, uint64_t offset, uint64_t n)
{
	uint64_t size = c->image->source.size;

	if (!n || offset >= size)
		return 0;
	if (n > size - offset)
		n = size - offset;
	return ask(c, claim, offset / PAGE_BYTES, (offset + n - 1) / PAGE_BYTES + 1);
}

void live_capture_cancel(struct live_capture *c)
{
	ask(c, cancel, 0, 0);
}

static void free_capture(struct live_capture *c)
{
	if (c->image)
		memory_source_unref(&c->image->source);
	page_bits_finish(&c->noted);
	free(c->buffer);
	free(c);
}

void live_capture_destroy(struct live_capture *c)
{
	if (!c)
		return;
	live_capture_cancel(c);
	free_capture(c);
}

static int create(struct live_capture **ret, const struct live_capture_options *o, struct failure *why)
{
	struct live_capture *c = calloc(1, sizeof *c);
	uint64_t cluster = o->cluster ?: PAGER_CLUSTER;
	int r = -ENOMEM;

	if (!c)
		return fail(why, ENOMEM, "no memory for a capture");
	c->watch = (struct pager_watch){ .wrote = wrote, .step = step, .broke = broke };
	c->region = o->region;
	c->cluster = cluster / PAGE_BYTES;
	c->done = o->done;
	c->data = o->data;
	c->buffer = aligned_alloc(PAGE_BYTES, cluster);
	if (c->buffer && page_bits_init(&c->noted, o->view->region->size / PAGE_BYTES) == 0)
		r = capture_image_create(&c->image, o->view, pager_region_base(o->region), o->file, why);
	else
		fail(why, ENOMEM, "no memory for a capture");
	if (r < 0)
		free_capture(c);
	else
		*ret = c;
	return r;
}

/* A capture that failed while it was being armed may have left what was protected after that. */
static void disarm(struct live_capture *c)
{
	live_capture_cancel(c);
	if (c->state == FAILED)
		unprotect_all(c);
	free_capture(c);
}

/* Protects while the guest writes: what it has written since is noted by the pager's thread, hence the watch comes first. */
static int protect_and_look(struct live_capture *c, struct failure *why)
{
	int r = ask(c, begin, 0, 0);

	if (r == -EBUSY)
		return fail(why, EBUSY, "another snapshot of this guest is being written");
	if (r == 0)
		r = protect_all(c);
	if (r < 0)
		return fail_errno(why, -r, "protecting guest RAM");
	r = capture_image_find_data(c->image);
	if (r < 0)
		return fail_errno(why, -r, "looking for data in guest RAM");
	r = ask(c, finish_arming, 0, 0);
	if (r < 0 && why)
		*why = c->why;
	return r;
}

/* Of a private region a page is found where it is when the capture is armed. */
static bool is_filled(const struct pager_region *r)
{
	struct pager_stats stats;

	pager_region_stats(r, &stats);
	return stats.complete;
}

int live_capture_arm(struct live_capture **ret, const struct live_capture_options *o, struct failure *why)
{
	struct live_capture *c = NULL;
	int r;

	if (o->view->region->size != pager_region_size(o->region) || o->cluster % PAGE_BYTES || o->cluster & (o->cluster - 1))
		return fail(why, EINVAL, "a capture of another size than the region's, or in odd pieces");
	if (o->view->region->kind == REGION_FILE && !is_filled(o->region))
		return fail(why, EBUSY, "the guest's own pages are still being placed");
	r = create(&c, o, why);
	if (r < 0)
		return r;
	r = protect_and_look(c, why);
	if (r < 0) {
		disarm(c);
		return r;
	}
	*ret = c;
	return 0;
}

void live_capture_progress(const struct live_capture *c, struct live_capture_progress *ret)
{
	ret->copied = atomic_load_explicit(&c->copied, memory_order_relaxed);
	ret->total = atomic_load_explicit(&c->total, memory_order_relaxed);
	ret->noted = page_bits_count(&c->noted) * PAGE_BYTES;
}

struct memory_source *live_capture_source(struct live_capture *c)
{
	return memory_source_ref(&c->image->source);
}
