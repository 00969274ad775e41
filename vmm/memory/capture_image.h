/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory that a live capture takes, as a source: whoever reads it gets a page from the capture's file once it is there, and from the guest's RAM,
 * which is protected until then, before. Outlives the capture. Private to memory/. */
#ifndef FORKFS_MEMORY_CAPTURE_IMAGE_H
#define FORKFS_MEMORY_CAPTURE_IMAGE_H

#include <pthread.h>

#include "vmm/memory/memory_source.h"
#include "vmm/memory/page_bits.h"
#include "vmm/memory/region.h"

struct capture_image {
	struct memory_source source;
	int file;                  /* owned, read and write */
	bool delta;                /* of a private region over a source: the process's own pages alone are captured, the others are the source's */
	struct page_bits captured; /* the file has it, and the guest may change it */
	struct page_bits data;     /* to be captured; the others are zeros, or the source's. Final before the first reader comes */
	struct page_bits own;      /* copied on write: the process has it and the region has not; likewise */
	uint64_t base;             /* the address of the region's first byte */
	pthread_rwlock_t lock;     /* held for reading by who reads the guest, for writing by who ends that */
	/* guarded by lock; all owned, given back when the capture has ended: */
	bool ended;
	struct region region;        /* a duplicate */
	int mem, pagemap;            /* -1 for a shared region */
	struct memory_source *under; /* as region_view has it; kept for a delta */
};

/* Duplicates the descriptors of `view` and `file`, which is made region->size bytes long. `base`: where the process maps it. Returns 0 and the only
 * reference, or a negative errno. */
int capture_image_create(struct capture_image **ret, const struct region_view *view, uint64_t base, int file, struct failure *why);

/* Notes where the data is: to be called once everything is protected; what is written afterwards is the caller's to add. Returns 0 or a negative errno. */
int capture_image_find_data(struct capture_image *image);

/* Marks those of the pages [from, to) that are the process's own; `swapped`: those in swap too, just before they are protected. None of a shared region.
 * Returns 0 or a negative errno. */
int capture_image_find_own(struct capture_image *image, uint64_t from, uint64_t to, bool swapped);

/* Reads pages that are not captured from where they are. Never has a page come into being, nor waits for a fault. Returns 0 or a negative errno. */
int capture_image_read_guest(struct capture_image *image, void *buf, size_t n, uint64_t offset);

/* Writes pages into the file, but for those of zeros: a delta's file has these, too, for its holes are the memory's under it. Returns 0 or a negative errno. */
int capture_image_write(struct capture_image *image, const char *buf, size_t n, uint64_t offset);

/* From now on nothing is read from the guest any more: what is not captured is lost, readers get -ECANCELED for it. */
void capture_image_end(struct capture_image *image);

#endif
