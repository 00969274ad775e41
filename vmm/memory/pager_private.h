/* SPDX-License-Identifier: Apache-2.0
 *
 * Between pager.c, which has the thread, and pager_region.c, which does its work. Private to memory/. */
#ifndef FORKFS_MEMORY_PAGER_PRIVATE_H
#define FORKFS_MEMORY_PAGER_PRIVATE_H

#include <pthread.h>

#include "vmm/base/list.h"
#include "vmm/memory/pager.h"

struct pager {
	pthread_t thread;
	int epoll, wake;
	pthread_mutex_t lock;
	pthread_cond_t answered; /* one of the calls was */
	struct list calls;       /* guarded by lock */
	/* the thread's own: */
	struct list work; /* regions with background work, in turn */
	char *buffer;     /* PAGER_CLUSTER_MAX bytes */
	char *zeros;      /* as many, never written */
	bool stop;
};

/* What is run on the pager's thread, first come, first served. */
struct pager_errand {
	struct list link;
	void (*fn)(void *data);
	void *data;
	bool done; /* guarded by pager.lock */
};

/* All that is neither constant nor atomic is the thread's own. */
struct pager_region {
	struct list link; /* pager.work */
	struct pager_errand begin;
	struct pager *pager;
	struct pager_options options; /* uffd and source are owned */
	struct page_bits there;       /* pages known to have been placed */
	struct extents first;
	size_t next_first;
	uint64_t cursor; /* bytes: how far the background has come in first.list[next_first], then in the source */
	bool filling, broken;
	bool guarded; /* there has been a watch: something may be protected */
	struct pager_watch *watch;
	_Atomic uint64_t faults, writes, filled;
	atomic_bool complete;
};

/* Answers what the descriptor has to tell. `failed`: it is no longer one that can be served. */
void pager_region_serve(struct pager_region *r, bool failed);

/* Places what is missing of [from, to), whole pages. Returns 0 or a negative errno. */
int pager_region_place(struct pager_region *r, uint64_t from, uint64_t to);

/* One step in the background. False: nothing is left to do. */
bool pager_region_step(struct pager_region *r);

/* Reports, once, and ends the background work. */
void pager_region_break(struct pager_region *r, const struct failure *why);

#endif
