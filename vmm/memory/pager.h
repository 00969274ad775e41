/* SPDX-License-Identifier: Apache-2.0
 *
 * Serves the missing pages of many address spaces, each from a source of its own, on one thread. That thread is the only reader of their userfaultfds:
 * what else such a descriptor tells goes from here to a watch (live_capture.h). Demand faults come first; background work is done in small steps between.
 *
 * A source that blocks holds up all that this pager serves: use one pager for each disk, or for each guest, where that matters.
 *
 * The process that made a userfaultfd should keep it open: when the last descriptor closes, missing pages become zeros. */
#ifndef FORKFS_MEMORY_PAGER_H
#define FORKFS_MEMORY_PAGER_H

#include <stdbool.h>

#include "vmm/memory/extents.h"
#include "vmm/memory/memory_source.h"
#include "vmm/memory/page_bits.h"

#define PAGER_CLUSTER (64u << 10) /* bytes */
#define PAGER_CLUSTER_MAX (2u << 20)

struct pager;
struct pager_region;

/* Starts the thread, which takes no signals. Returns 0 or a negative errno. */
int pager_create(struct pager **ret, struct failure *why);

/* All its regions must have been removed. Ends the thread. NULL is accepted. */
void pager_destroy(struct pager *p);

/* The callbacks run on the pager's thread and must neither block nor call the pager. */
struct pager_options {
	int uffd;      /* made non-blocking and duplicated; registered for what it shall serve already */
	uint64_t base; /* where its process maps the region's first byte */
	uint64_t size; /* bytes of the region, a multiple of the page size */
	struct memory_source *source;     /* gets a reference; NULL: missing pages are zeros */
	uint32_t cluster;                 /* bytes served at one fault, a power of 2 from the page size on; 0: PAGER_CLUSTER */
	bool fill;                        /* place all data of the source in the background */
	bool held;                        /* nothing is placed in the background before pager_begin() */
	bool adopt;                       /* another pager had it, and may have died amidst: protects nothing, has whoever waits try again */
	const struct extents *first;      /* to be placed in the background before anything else, whether or not `fill`; copied; may be NULL */
	struct page_bits *demanded;       /* gets the pages placed for real faults; borrowed until pager_remove(); may be NULL */
	void (*broke)(void *data, const struct failure *why); /* at most once: -EIO, the source; -ESRCH, the process. Whoever waits goes on waiting */
	void (*filled)(void *data);       /* once: the background has placed what it was to place; may be NULL */
	void *data;
};

/* Not to be called on the pager's thread. Returns 0 and a handle for pager_remove(); -EINVAL, -ENOMEM, -EMFILE … */
int pager_add(struct pager_region **ret, struct pager *p, const struct pager_options *o, struct failure *why);

/* The background work of a region that is `held` begins. Once; doesn't wait for the pager's thread. From any other one. */
void pager_begin(struct pager_region *r);

/* Waits until nothing of it is served any more; no callback comes afterwards. A watch must be gone before (live_capture_destroy()). What was protected is
 * no more. Whoever waits for a page goes on waiting. Not to be called on the pager's thread. NULL is accepted. */
void pager_remove(struct pager_region *r);

/* Has the pages of these bytes placed now where they are missing, so that the caller may write to them not by way of the region's process. Not to be called on the
 * pager's thread. Returns 0, -EIO its source or process broke, or another negative errno. */
int pager_place(struct pager_region *r, uint64_t offset, uint64_t n);

struct pager_stats {
	uint64_t faults; /* pages asked for */
	uint64_t writes; /* writes to protected pages */
	uint64_t filled; /* bytes placed, by faults and in the background */
	bool complete;   /* the background has nothing left to do */
};

/* From any thread. */
void pager_region_stats(const struct pager_region *r, struct pager_stats *ret);

/* For what works on a region beside the pager, on the pager's thread: the functions below are for that alone. While there is a watch, pages are placed
 * write-protected. */
struct pager_watch {
	void (*wrote)(struct pager_watch *w, uint64_t offset); /* somebody waits to write to this protected page of the region */
	bool (*step)(struct pager_watch *w);                   /* a small piece of work; false: there is none, don't call again */
	void (*broke)(struct pager_watch *w, const struct failure *why); /* the region did; it is watched no more */
};

/* Runs fn(data) on the pager's thread between two steps and waits for it. From any other thread. */
void pager_call(struct pager_region *r, void (*fn)(void *data), void *data);

/* On the pager's thread. Returns 0; -EBUSY there is another; -EIO the region is broken. */
int pager_region_watch(struct pager_region *r, struct pager_watch *w);
void pager_region_unwatch(struct pager_region *r);

/* Has w->step() called. On the pager's thread. */
void pager_region_work(struct pager_region *r);

/* From any thread: they never change. */
int pager_region_uffd(const struct pager_region *r);
uint64_t pager_region_base(const struct pager_region *r);
uint64_t pager_region_size(const struct pager_region *r);

#endif
