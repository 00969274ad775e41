/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/paging.h"

#include <string.h>

#include "vmm/memory/uffd.h"
#include "vmm/memory/written.h"

struct paging {
	struct job news; /* the memory broke */
	struct job end;
	struct jobs *jobs;
	unsigned int refs;
	struct pager *pager;
	struct pager_region *region;
	struct page_bits learned;
	bool lazy, learns, held;
	uint64_t features, at, size;
	int uffd;
	int notes; /* the one that has the memory so far, -1 none */
	bool broken, told;
	struct failure why; /* written by the pager's thread before `news` is delivered */
	void (*broke)(void *data, const struct failure *why);
	void *data;
};

static void tell(struct paging *p)
{
	if (!p->broken || p->told || !p->broke || p->why.code == ESRCH)
		return;
	p->told = true;
	p->broke(p->data, &p->why);
}

static void free_paging(struct paging *p)
{
	page_bits_finish(&p->learned);
	free(p);
}

static void on_news(struct job *job)
{
	struct paging *p = container_of(job, struct paging, news);

	p->broken = true;
	tell(p);
}

/* On the pager's thread, once. */
static void on_broke(void *data, const struct failure *why)
{
	struct paging *p = data;

	p->why = *why;
	jobs_deliver(p->jobs, &p->news);
}

static uint64_t modes(const struct paging *p, bool protect)
{
	return (p->lazy ? UFFDIO_REGISTER_MODE_MISSING : 0) | (protect ? UFFDIO_REGISTER_MODE_WP : 0);
}

static int begin(struct paging *p, const struct paging_options *o, struct failure *why)
{
	struct pager_options options = {
		.uffd = p->uffd,
		.base = p->at,
		.size = p->size,
		.source = o->source,
		.fill = o->fill,
		.first = o->first,
		.held = o->held,
		.adopt = o->adopt,
		.broke = on_broke,
		.data = p,
	};
	int r;

	if (o->learn && page_bits_init(&p->learned, p->size / PAGE_BYTES) == 0) {
		p->learns = true;
		options.demanded = &p->learned;
	}
	if (p->lazy) {
		r = uffd_register(p->uffd, p->at, p->size, modes(p, false));
		if (r < 0)
			return fail_errno(why, -r, "guest RAM can't be filled on demand");
	}
	r = pager_create(&p->pager, why);
	if (r < 0)
		return r;
	r = pager_add(&p->region, p->pager, &options, why);
	if (r < 0)
		pager_destroy(p->pager);
	return r;
}

int paging_create(struct paging **ret, const struct paging_options *o, struct failure *why)
{
	struct paging *p;
	int r;

	if (o->memory->uffd < 0)
		return fail(why, EOPNOTSUPP, "the VMM has no userfaultfd (%s)", strerrordesc_np(-o->memory->error) ?: "unknown");
	p = calloc(1, sizeof *p);
	if (!p)
		return fail(why, ENOMEM, "no memory to page guest RAM with");
	p->jobs = o->jobs;
	p->refs = 1;
	p->news.done = on_news;
	p->features = o->memory->features;
	p->at = o->memory->at;
	p->size = o->size;
	p->uffd = o->memory->uffd;
	p->notes = o->memory->noted ? o->memory->notes : -1;
	p->lazy = o->source;
	p->held = o->held;
	r = begin(p, o, why);
	if (r < 0) {
		free_paging(p);
		return r;
	}
	*ret = p;
	return 0;
}

void paging_begin(struct paging *p)
{
	if (!p || !p->held)
		return;
	p->held = false;
	pager_begin(p->region);
}

struct paging *paging_ref(struct paging *p)
{
	p->refs++;
	return p;
}

static void end_run(struct job *job)
{
	struct paging *p = container_of(job, struct paging, end);

	pager_remove(p->region);
	pager_destroy(p->pager);
}

/* News that came before the region was removed were delivered before this. */
static void end_done(struct job *job)
{
	free_paging(container_of(job, struct paging, end));
}

void paging_unref(struct paging *p)
{
	if (!p || --p->refs)
		return;
	p->broke = NULL;
	p->end.run = end_run;
	p->end.done = end_done;
	jobs_submit(p->jobs, &p->end);
}

void paging_watch(struct paging *p, void (*broke)(void *data, const struct failure *why), void *data)
{
	p->broke = broke;
	p->data = data;
	tell(p);
}

bool paging_is_lazy(const struct paging *p)
{
	return p->lazy;
}

const struct page_bits *paging_learned(const struct paging *p)
{
	return p->learns ? &p->learned : NULL;
}

void paging_stats(const struct paging *p, struct pager_stats *ret)
{
	pager_region_stats(p->region, ret);
}

int paging_place(struct paging *p, uint64_t offset, uint64_t n)
{
	return p->lazy ? pager_place(p->region, offset, n) : 0;
}

int paging_protectable(struct paging *p, struct pager_region **ret, struct failure *why)
{
	int r = (p->features & UFFD_FEATURES_CAPTURE) == UFFD_FEATURES_CAPTURE ? 0 : -EOPNOTSUPP;

	if (r == 0 && p->notes >= 0)
		written_end(p->notes, p->at, p->size);
	p->notes = -1;
	if (r == 0)
		r = uffd_register(p->uffd, p->at, p->size, modes(p, true));
	if (r < 0)
		return fail(why, EOPNOTSUPP, "this kernel can't notice writes to such memory (%s)", strerrordesc_np(-r) ?: "unknown");
	*ret = p->region;
	return 0;
}
