/* SPDX-License-Identifier: Apache-2.0
 *
 * All of a guest's RAM as it was at one instant, while the guest goes on: arm while it runs, stop while it stands still and its device state is saved,
 * let it go, run. Everything happens on the thread of the pager that serves the region, whose userfaultfd must be registered for write-protection
 * (UFFD_FEATURES_CAPTURE), and may be for missing pages as well.
 *
 * It sees what comes by way of the guest's process. Nobody else may write to a shared region's memfd meanwhile but after live_capture_claim(), nor may
 * ranges of it be given back (a balloon). */
#ifndef FORKFS_MEMORY_LIVE_CAPTURE_H
#define FORKFS_MEMORY_LIVE_CAPTURE_H

#include "vmm/memory/pager.h"
#include "vmm/memory/region.h"

struct live_capture;

struct live_capture_options {
	struct pager_region *region;    /* must outlive the capture */
	const struct region_view *view; /* of the same memory; needed by live_capture_arm() alone */
	int file;                       /* an empty file, readable and writable; duplicated; gets whole pages, zeros stay holes; not synced */
	uint32_t cluster;               /* bytes copied at once, a power of 2 from the page size on; 0: PAGER_CLUSTER */
	/* Once, on the pager's thread, unless the capture was cancelled: `result` 0, every page is in the file; else a negative errno (-ENOSPC, -EIO, -ESRCH
	 * the VMM is gone …), nothing is protected any more and the file is of no use. Must neither block nor call the pager or the capture. May come as
	 * soon as it is armed. */
	void (*done)(void *data, int result, const struct failure *why);
	void *data;
};

/* None of these may be called on the pager's thread. */

/* While the guest runs: protects all of the region, and looks where its data is. Takes some milliseconds, of the caller. Returns 0; -EBUSY another capture
 * of the region is on, or a private region's pager has not yet placed all that it is to; -EIO its pager is broken; -ENOENT the descriptor isn't registered
 * for this; -ESRCH; other errnos of open, ftruncate. */
int live_capture_arm(struct live_capture **ret, const struct live_capture_options *o, struct failure *why);

/* While the guest stands still and nobody writes to its RAM any more: this is the instant. Protects again what was written since. Returns 0, or why the
 * capture failed. The guest may run again, and waits at a page not yet copied for that page only. */
int live_capture_stop(struct live_capture *c);

/* Begins to copy in the background. Best called when the guest runs again. Returns 0, or why it failed. */
int live_capture_run(struct live_capture *c);

/* Has these bytes' pages copied now if they aren't, so that the caller may write to them not by way of the guest's process. Between this and the end of the
 * write there must be no live_capture_stop(). Returns 0, or why the capture failed. */
int live_capture_claim(struct live_capture *c, uint64_t offset, uint64_t n);

/* Gives up: nothing is protected any more, whoever waited goes on, done() isn't called afterwards. Of no effect on one that has ended. */
void live_capture_cancel(struct live_capture *c);

/* Cancels, and frees. NULL is accepted. */
void live_capture_destroy(struct live_capture *c);

struct live_capture_progress {
	uint64_t copied; /* bytes of data whose copy is there */
	uint64_t total;  /* bytes to be copied; final after live_capture_run() */
	uint64_t noted;  /* bytes written between arming and the stop */
};

/* From any thread. */
void live_capture_progress(const struct live_capture *c, struct live_capture_progress *ret);

/* The captured memory, to be read while it is still being captured and afterwards too, by any thread; a reference for the caller. -ECANCELED is read where
 * a capture ended before the page was copied. To be called after live_capture_run(). */
struct memory_source *live_capture_source(struct live_capture *c);

#endif
