/* SPDX-License-Identifier: Apache-2.0
 *
 * Giving a VMM that waits its guest:
 *
 *     mapping (the memory) → placing (a worker: what has to be there before it runs) → loading (the device state) → noting (a worker: that what it writes is noted, where
 *     nothing else watches its memory) → loaded, stopped
 *
 * For a fork's VMM and for one of the pool. Loop only. Whoever owns the VMM tells what it answers. */
#ifndef FORKFS_LOADING_H
#define FORKFS_LOADING_H

#include "vmm/memory/region.h"
#include "vmm/origin.h"
#include "vmm/paging.h"

enum loading_step { LOADING_MAP, LOADING_PLACE, LOADING_STATE, LOADING_NOTES, LOADING_STEPS };

struct loading {
	/* Set by whoever begins it: */
	struct jobs *jobs;
	struct vm *vm;
	struct origin *origin; /* borrowed until done() */
	const char *id;        /* the fork's, and who restores it; NULL: it is to wait in the pool */
	struct caller *caller;
	struct region *own;    /* what the VMM maps so far; taken over when it is the guest's memory, else closed */
	void (*asks)(struct loading *l); /* before each request of the driver's: it may have a bound; may be NULL */
	void (*broke)(struct loading *l, const struct failure *why); /* its memory did: the VMM will never answer */
	/* Once, never from inside loading_begin(): why NULL, the guest is loaded; or why not, and the VMM is of no use. */
	void (*done)(struct loading *l, const struct failure *why);
	/* What came of it; the caller's once it is done with success: */
	struct region ram;
	struct paging *paging; /* NULL: all pages are there */
	uint64_t took[LOADING_STEPS]; /* microseconds */
	/* Its own: */
	struct job job;
	enum loading_step step;
	bool working; /* a worker has it */
	int vmstate;
	uint64_t since;
	struct failure why;
	char tap[16];
};

void loading_begin(struct loading *l);

/* The VMM has answered. */
void loading_answered(struct loading *l, const struct failure *why);

/* The VMM has ended, or is to be; true: a worker has it, done() follows with a failure. False: done() is not called any more. */
bool loading_abort(struct loading *l);

/* Gives back what it has. */
void loading_finish(struct loading *l);

#endif
