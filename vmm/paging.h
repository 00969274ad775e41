/* SPDX-License-Identifier: Apache-2.0
 *
 * What happens to the memory of one running VM page by page: missing pages are served, writes are noticed. With a pager of its own, so that a source that blocks holds
 * up no other guest. Loop only, unless said. */
#ifndef FORKFS_PAGING_H
#define FORKFS_PAGING_H

#include "vmm/base/jobs.h"
#include "vmm/driver.h"
#include "vmm/memory/pager.h"

struct paging;

struct paging_options {
	struct jobs *jobs;
	const struct vm_memory *memory;
	uint64_t size;
	struct memory_source *source; /* of what is missing; NULL: nothing is */
	bool fill;                    /* place the rest in the background */
	const struct extents *first;  /* likewise, before all else; may be NULL */
	bool held;                    /* neither before paging_begin() */
	bool learn;                   /* keep account of what is asked for */
	bool adopt;                   /* as pager_options has it */
};

/* Registers the memory with its userfaultfd and begins to serve. Returns 0; -EOPNOTSUPP it can't be had; or another negative errno. */
int paging_create(struct paging **ret, const struct paging_options *o, struct failure *why);

/* What is to be placed unasked is placed from now on, of one that was held; else of no effect. NULL is accepted. */
void paging_begin(struct paging *p);

struct paging *paging_ref(struct paging *p);

/* The last one ends it, on a worker. NULL is accepted. */
void paging_unref(struct paging *p);

/* Who is told, once and at once if it has happened already, that the memory can't be had any more: the guest waits for ever. NULL: nobody. That the VMM has ended is
 * for its process to tell. */
void paging_watch(struct paging *p, void (*broke)(void *data, const struct failure *why), void *data);

/* Whether pages come from a source. */
bool paging_is_lazy(const struct paging *p);

/* What the guest asked for so far, NULL: no account is kept. */
const struct page_bits *paging_learned(const struct paging *p);

/* Any thread, as long as there is a reference: */
void paging_stats(const struct paging *p, struct pager_stats *ret);

/* Before bytes are written not by way of the VMM. Blocks. */
int paging_place(struct paging *p, uint64_t offset, uint64_t n);

/* The region, with writes to it noticeable from now on. Returns 0; -EOPNOTSUPP with a sentence: the kernel can't for this memory. */
int paging_protectable(struct paging *p, struct pager_region **ret, struct failure *why);

#endif
