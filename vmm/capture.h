/* SPDX-License-Identifier: Apache-2.0
 *
 * Capturing a guest's RAM into a file. Live: armed while the guest runs, it stands still for an instant, and what is captured is copied while it runs again; a capture
 * like that outlives the request that began it, and belongs to its fork until it has ended. Where that can't be had the guest stands until all is copied. Loop
 * only, unless said. */
#ifndef FORKFS_CAPTURE_H
#define FORKFS_CAPTURE_H

#include "vmm/fork.h"
#include "vmm/memory/live_capture.h"

struct capture {
	struct job news, end;
	struct forks *all;
	struct fork *fork;         /* a reference */
	struct shot *shot;         /* likewise, once the guest runs again and the shot is `writing` */
	struct snapshot *snapshot; /* likewise */
	struct paging *paging;     /* likewise */
	struct live_capture *live; /* NULL: it isn't live */
	bool stop;                    /* it isn't to be live */
	bool ending, over, cancelled; /* a worker takes it apart; its result has been told; it was given up */
	int result;
	struct failure why;
};

/* One for fork `f`, whose pager is made when it has none. Never fails but for memory: where the guest can't be captured live f->not_live says why. */
struct capture *capture_create(struct fork *f);

/* Worker. Arms it, `memory` is the empty file that gets all pages, or of a private child only those over its template (`delta`). A failure means
 * that it can't be live. */
void capture_arm(struct capture *c, int memory, bool delta);

static inline bool capture_is_live(const struct capture *c)
{
	return c->live;
}

/* Worker, while the guest stands still and its device state is saved (saving may write RAM). Live: marks the instant; else copies all. Returns 0 or a negative errno. */
int capture_take(struct capture *c, int memory, const atomic_bool *cancelled, struct failure *why);

/* Worker, when the guest may run again: the captured memory as a source, a reference for the caller. Returns 0 or a negative errno. */
int capture_source(struct capture *c, int memory, struct memory_source **ret, struct failure *why);

/* The guest runs again, the shot can be restored: the rest is done behind it, and one that isn't live is complete at once. Takes references of the shot and the
 * snapshot; the fork's from now on. */
void capture_go_on(struct capture *c, struct shot *shot, struct snapshot *snapshot);

/* Gives it up, whatever it is doing; freed when that is undone. */
void capture_cancel(struct capture *c);

/* Its shot was dropped: gives it up unless somebody was restored from it and waits for its pages. */
void capture_dropped(struct capture *c);

#endif
