/* SPDX-License-Identifier: Apache-2.0
 *
 * Through buffers that stay in the processor's cache: as fast as pwrite(2) out of a mapping of the source, without the SIGBUS that looking at such a
 * mapping costs when the source shrinks. */
#include "vmm/memory/copy.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/memory/extents.h"
#include "vmm/memory/memory_source.h"
#include "vmm/memory/whole.h"
#include "vmm/memory/window.h"

#define CHUNK (512u << 10)
#define CACHE_LINE 64u
#define ALONE (16ull << 20) /* bytes of data that are not worth a second thread */

/* What is left to copy, taken by chunks. */
struct plan {
	const struct extents *data;
	uint64_t size;
	const atomic_bool *cancelled;
	pthread_mutex_t lock;
	/* guarded by lock */
	size_t extent;
	uint64_t done; /* bytes of that extent that were taken */
	bool stop;     /* one of the threads has failed */
};

/* One thread's part in it. */
struct transfer {
	struct plan *plan;
	int (*read)(const struct transfer *t, void *buf, size_t n, uint64_t offset); /* all of it: 0 or a negative errno */
	struct memory_source *from;
	const struct region_view *view;
	int to;
	const struct window *window; /* of `to`, or NULL */
	char *buffer;
	struct copy_stats stats;
	int result;
	struct failure why;
};

static int read_source(const struct transfer *t, void *buf, size_t n, uint64_t offset)
{
	return memory_source_read(t->from, buf, n, offset);
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

/* What the window does not take, say a page that is no hole, the file does; or it knows the reason. */
static int write_run(const struct transfer *t, const char *p, size_t n, uint64_t offset)
{
	if (t->window && n % PAGE_BYTES == 0 && window_put(t->window, p, n, offset) == 0)
		return 0;
	return write_whole(t->to, p, n, offset);
}

static int copy_chunk(struct transfer *t, uint64_t offset, size_t n)
{
	int r = t->read(t, t->buffer, n, offset);

	if (r < 0 && t->from)
		return memory_source_explain(t->from, r, offset, &t->why);
	if (r < 0)
		return fail_errno(&t->why, -r, "reading guest RAM at %#llx", (unsigned long long)offset);
	for (size_t at = 0, run; at < n; at += run) {
		bool zero;

		run = alike(t->buffer + at, n - at, &zero);
		if (zero) {
			t->stats.zeros += run;
			continue;
		}
		r = write_run(t, t->buffer + at, run, offset + at);
		if (r < 0)
			return fail_errno(&t->why, -r, "writing guest RAM at %#llx", (unsigned long long)(offset + at));
		t->stats.copied += run;
	}
	return 0;
}

/* Returns the length of the next chunk, 0 when there is none. */
static size_t take_chunk(struct plan *p, uint64_t *ret_offset)
{
	const struct extent *x;
	uint64_t left, n = 0;

	pthread_mutex_lock(&p->lock);
	if (!p->stop && p->extent < p->data->count) {
		x = &p->data->list[p->extent];
		*ret_offset = x->start + p->done;
		left = (x->end < p->size ? x->end : p->size) - *ret_offset;
		n = left < CHUNK ? left : CHUNK;
		p->done += n;
		if (n == left) {
			p->extent++;
			p->done = 0;
		}
	}
	pthread_mutex_unlock(&p->lock);
	return n;
}

static int copy_chunks(struct transfer *t)
{
	AUTO_FREE char *buffer = aligned_alloc(PAGE_BYTES, CHUNK);
	uint64_t offset;
	size_t n;
	int r = 0;

	if (!buffer)
		return fail(&t->why, ENOMEM, "no memory to copy guest RAM with");
	t->buffer = buffer;
	while (r == 0 && (n = take_chunk(t->plan, &offset))) {
		if (t->plan->cancelled && atomic_load_explicit(t->plan->cancelled, memory_order_relaxed))
			return fail(&t->why, ECANCELED, "copying guest RAM was called off");
		r = copy_chunk(t, offset, n);
	}
	return r;
}

static void *copy_thread(void *data)
{
	struct transfer *t = data;

	t->result = copy_chunks(t);
	if (t->result < 0) {
		pthread_mutex_lock(&t->plan->lock);
		t->plan->stop = true;
		pthread_mutex_unlock(&t->plan->lock);
	}
	return NULL;
}

/* Copies `data`; by two threads where the window lets them work side by side. */
static int copy_all(const struct transfer *how, struct plan *plan, struct copy_stats *stats, struct failure *why)
{
	struct transfer own = *how, other = *how;
	pthread_t thread;
	bool two;

	own.plan = other.plan = plan;
	pthread_mutex_init(&plan->lock, NULL);
	two = how->window && !pthread_create(&thread, NULL, copy_thread, &other);
	copy_thread(&own);
	if (two)
		pthread_join(thread, NULL);
	pthread_mutex_destroy(&plan->lock);
	if (own.result < 0 || other.result < 0) {
		const struct transfer *failed = own.result < 0 ? &own : &other;

		if (why)
			*why = failed->why;
		return failed->result;
	}
	*stats = (struct copy_stats){ own.stats.copied + other.stats.copied, own.stats.zeros + other.stats.zeros };
	return 0;
}

int memory_fill(int to, struct memory_source *from, const atomic_bool *cancelled, struct copy_stats *stats, struct failure *why)
{
	AUTO_EXTENTS struct extents data = { 0 };
	struct plan plan = { .data = &data, .size = from->size, .cancelled = cancelled };
	struct transfer how = { .read = read_source, .from = from, .to = to };
	struct copy_stats done;
	struct window window;
	int r = memory_source_extents(from, &data);

	if (r < 0)
		return fail_errno(why, -r, "looking for data in the snapshot's memory");
	if (extents_bytes(&data) >= ALONE && window_open(&window, to, plan.size) == 0)
		how.window = &window;
	r = copy_all(&how, &plan, &done, why);
	if (how.window)
		window_close(&window);
	if (r == 0 && stats)
		*stats = done;
	return r;
}

int memory_save(int to, const struct region_view *from, const atomic_bool *cancelled, struct copy_stats *stats, struct failure *why)
{
	AUTO_EXTENTS struct extents data = { 0 };
	struct plan plan = { .data = &data, .size = from->region->size, .cancelled = cancelled };
	struct copy_stats done;
	int r;

	if (ftruncate(to, (off_t)plan.size))
		return fail_errno(why, errno, "a memory file of %llu bytes", (unsigned long long)plan.size);
	r = region_view_extents(from, &data);
	if (r < 0)
		return fail_errno(why, -r, "looking for data in guest RAM");
	r = copy_all(&(struct transfer){ .read = read_view, .view = from, .to = to }, &plan, &done, why);
	if (r == 0 && stats)
		*stats = done;
	return r;
}
