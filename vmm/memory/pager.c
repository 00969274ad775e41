/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/pager_private.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "vmm/memory/uffd.h"

#define EVENTS 16
#define STACK (256u << 10) /* bytes: there may be hundreds of these threads */
#define PATIENCE 8 /* rounds with faults after which the background gets a step all the same */

static void call_thread(struct pager *p, void (*fn)(void *), void *data)
{
	struct pager_errand call = { .fn = fn, .data = data };

	pthread_mutex_lock(&p->lock);
	list_append(&p->calls, &call.link);
	eventfd_write(p->wake, 1);
	while (!call.done)
		pthread_cond_wait(&p->answered, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

void pager_call(struct pager_region *r, void (*fn)(void *), void *data)
{
	call_thread(r->pager, fn, data);
}

static void answer_calls(struct pager *p)
{
	struct pager_errand *call;
	eventfd_t n;

	eventfd_read(p->wake, &n);
	pthread_mutex_lock(&p->lock);
	while ((call = list_first(&p->calls, struct pager_errand, link))) {
		list_remove(&call->link);
		pthread_mutex_unlock(&p->lock);
		call->fn(call->data);
		pthread_mutex_lock(&p->lock);
		call->done = true;
		pthread_cond_broadcast(&p->answered);
	}
	pthread_mutex_unlock(&p->lock);
}

/* Returns whether there were faults. Calls may take regions away, so they come behind all of the events. */
static bool answer_events(struct pager *p)
{
	struct epoll_event events[EVENTS];
	bool faults = false, calls = false;
	int n = epoll_wait(p->epoll, events, EVENTS, list_empty(&p->work) ? -1 : 0);

	for (int i = 0; i < n; i++) {
		if (events[i].data.ptr) {
			pager_region_serve(events[i].data.ptr, events[i].events & (EPOLLERR | EPOLLHUP));
			faults = true;
		} else {
			calls = true;
		}
	}
	if (calls)
		answer_calls(p);
	return faults;
}

static void work(struct pager *p)
{
	struct pager_region *r = list_first(&p->work, struct pager_region, link);

	if (!r)
		return;
	list_remove(&r->link);
	if (pager_region_step(r))
		pager_region_work(r);
}

static void *pager_thread(void *data)
{
	struct pager *p = data;
	unsigned int rounds = 0;

	while (!p->stop) {
		rounds = answer_events(p) ? rounds + 1 : PATIENCE;
		if (rounds >= PATIENCE) {
			rounds = 0;
			work(p);
		}
	}
	return NULL;
}

static int start_thread(struct pager *p)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&p->thread, &attr, pager_thread, p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

static int watch_descriptor(struct pager *p, int fd, struct pager_region *r)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = r };

	return epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

/* Two mappings, so that zeros cost no memory. */
static int make_buffers(struct pager *p)
{
	char *at = mmap(NULL, 2 * PAGER_CLUSTER_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return -errno;
	p->buffer = at;
	p->zeros = at + PAGER_CLUSTER_MAX;
	return 0;
}

static void finish(struct pager *p)
{
	if (p->buffer)
		munmap(p->buffer, 2 * PAGER_CLUSTER_MAX);
	close_fd(&p->epoll);
	close_fd(&p->wake);
	pthread_cond_destroy(&p->answered);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static int start(struct pager *p)
{
	int r;

	p->epoll = epoll_create1(EPOLL_CLOEXEC);
	p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->epoll < 0 || p->wake < 0)
		return -errno;
	r = make_buffers(p);
	if (r == 0)
		r = watch_descriptor(p, p->wake, NULL);
	return r < 0 ? r : start_thread(p);
}

int pager_create(struct pager **ret, struct failure *why)
{
	struct pager *p = calloc(1, sizeof *p);
	int r;

	if (!p)
		return fail(why, ENOMEM, "no memory for a pager");
	p->epoll = p->wake = -1;
	list_init(&p->calls);
	list_init(&p->work);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->answered, NULL);
	r = start(p);
	if (r < 0) {
		finish(p);
		return fail_errno(why, -r, "starting a pager");
	}
	*ret = p;
	return 0;
}

static void stop(void *data)
{
	((struct pager *)data)->stop = true;
}

void pager_destroy(struct pager *p)
{
	if (!p)
		return;
	call_thread(p, stop, p);
	pthread_join(p->thread, NULL);
	finish(p);
}

static void region_free(struct pager_region *r)
{
	close_fd(&r->options.uffd);
	memory_source_unref(r->options.source);
	extents_finish(&r->first);
	page_bits_finish(&r->there);
	free(r);
}

static bool is_valid(const struct pager_options *o)
{
	uint32_t cluster = o->cluster ?: PAGER_CLUSTER;

	return o->size && o->size % PAGE_BYTES == 0 && o->base % PAGE_BYTES == 0 && !(cluster & (cluster - 1)) && cluster >= PAGE_BYTES &&
	       cluster <= PAGER_CLUSTER_MAX;
}

static int copy_first(struct pager_region *r, const struct extents *first)
{
	for (size_t i = 0; first && i < first->count && first->list[i].start < r->options.size; i++) {
		uint64_t end = first->list[i].end < r->options.size ? first->list[i].end : r->options.size;

		if (extents_add(&r->first, first->list[i].start, end) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int region_init(struct pager_region *r, struct pager *p, const struct pager_options *o)
{
	int flags = fcntl(o->uffd, F_GETFL);

	list_init(&r->link);
	r->pager = p;
	r->options = *o;
	r->options.source = o->source ? memory_source_ref(o->source) : NULL;
	r->options.cluster = o->cluster ?: PAGER_CLUSTER;
	r->filling = o->first || (o->fill && o->source);
	atomic_init(&r->complete, !r->filling);
	r->options.uffd = flags < 0 ? -1 : fcntl(o->uffd, F_DUPFD_CLOEXEC, 3);
	if (r->options.uffd < 0 || fcntl(r->options.uffd, F_SETFL, flags | O_NONBLOCK))
		return -errno;
	if (page_bits_init(&r->there, o->size / PAGE_BYTES) < 0)
		return -ENOMEM;
	return copy_first(r, o->first);
}

struct addition {
	struct pager_region *region;
	int result;
};

/* The former pager may have died with faults that it had read and never answered: those come anew. Where nothing can be protected (the range isn't
 * registered for it) nothing is. */
static int adopt(struct pager_region *r)
{
	int e = uffd_writeprotect(r->options.uffd, r->options.base, r->options.size, false);

	if (e < 0 && e != -ENOENT && e != -EINVAL)
		return e;
	return uffd_wake(r->options.uffd, r->options.base, r->options.size);
}

static void add(void *data)
{
	struct addition *a = data;
	struct pager_region *r = a->region;

	a->result = watch_descriptor(r->pager, r->options.uffd, r);
	if (a->result == 0 && r->options.adopt)
		a->result = adopt(r);
	if (a->result == 0 && r->filling && !r->options.held)
		pager_region_work(r);
	if (a->result < 0)
		epoll_ctl(r->pager->epoll, EPOLL_CTL_DEL, r->options.uffd, NULL);
}

int pager_add(struct pager_region **ret, struct pager *p, const struct pager_options *o, struct failure *why)
{
	struct addition a = { .region = calloc(1, sizeof *a.region) };

	if (!is_valid(o)) {
		free(a.region);
		return fail(why, EINVAL, "a region that no pager can serve");
	}
	if (!a.region)
		return fail(why, ENOMEM, "no memory for a region's pager");
	a.result = region_init(a.region, p, o);
	if (a.result == 0)
		call_thread(p, add, &a);
	if (a.result < 0) {
		region_free(a.region);
		return fail_errno(why, -a.result, "serving a region's pages");
	}
	*ret = a.region;
	return 0;
}

static void begin(void *data)
{
	struct pager_region *r = data;

	if (r->filling)
		pager_region_work(r);
}

/* The region outlives it: what removes a region stands behind it in the line. */
void pager_begin(struct pager_region *r)
{
	struct pager *p = r->pager;

	r->begin = (struct pager_errand){ .fn = begin, .data = r };
	pthread_mutex_lock(&p->lock);
	list_append(&p->calls, &r->begin.link);
	pthread_mutex_unlock(&p->lock);
	eventfd_write(p->wake, 1);
}

static void take_away(void *data)
{
	struct pager_region *r = data;

	epoll_ctl(r->pager->epoll, EPOLL_CTL_DEL, r->options.uffd, NULL);
	list_remove(&r->link);
	if (r->guarded)
		uffd_writeprotect(r->options.uffd, r->options.base, r->options.size, false);
}

void pager_remove(struct pager_region *r)
{
	if (!r)
		return;
	call_thread(r->pager, take_away, r);
	region_free(r);
}

struct placing {
	struct pager_region *region;
	uint64_t from, to;
	int result;
};

static void place(void *data)
{
	struct placing *q = data;

	q->result = pager_region_place(q->region, q->from, q->to);
}

int pager_place(struct pager_region *r, uint64_t offset, uint64_t n)
{
	struct placing q = { .region = r, .from = offset - offset % PAGE_BYTES, .to = offset + n };

	if (!n || offset >= r->options.size)
		return 0;
	q.to = n > r->options.size - offset ? r->options.size : q.to + -q.to % PAGE_BYTES;
	call_thread(r->pager, place, &q);
	return q.result;
}
