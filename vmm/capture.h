/* SPDX-License-Identifier: Apache-2.0
 *
 * Capturing the RAM of a stopped guest into a file. Whoever takes a snapshot knows only this border: that the guest may go on, and that all is captured, are
 * two things, told one after the other. So far the guest stands until all is copied. */
#ifndef FORKFS_CAPTURE_H
#define FORKFS_CAPTURE_H

#include "vmm/base/jobs.h"
#include "vmm/memory/region.h"

struct capture {
	/* Set by whoever begins it: */
	const struct region *region; /* stays until captured() */
	pid_t pid;                   /* who maps it */
	int memory;                  /* an empty file, borrowed */
	void (*may_run)(struct capture *c);                              /* the guest may go on */
	void (*captured)(struct capture *c, const struct failure *why); /* why NULL: every byte is in the file. Comes after may_run, or instead of it on failure */
	/* The capture's own: */
	struct job job;
	struct failure why;
};

/* The guest is stopped and its device state saved (saving may write RAM). captured() follows, never from inside. */
void capture_begin(struct capture *c, struct jobs *jobs);

/* captured() follows with ECANCELED, unless it was done already. */
void capture_cancel(struct capture *c);

#endif
