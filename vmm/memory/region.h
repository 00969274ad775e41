/* SPDX-License-Identifier: Apache-2.0
 *
 * A region is the RAM of one guest: what the VMM maps. A view looks at it from outside. Knows no VMM and no FUSE. */
#ifndef FORKFS_MEMORY_REGION_H
#define FORKFS_MEMORY_REGION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/base/failure.h"

enum region_kind {
	REGION_NONE,
	REGION_SHARED, /* a memfd of its own, mapped MAP_SHARED: what the guest writes is in the memfd at once */
	REGION_FILE,   /* a memory file mapped MAP_PRIVATE: what the guest wrote is in the VMM's anonymous pages only */
};

struct region {
	enum region_kind kind;
	uint64_t size; /* bytes, a multiple of the page size */
	int fd;        /* owned. REGION_SHARED: the memfd, read-write; REGION_FILE: the file, read-only */
};

/* A fresh, all-zero memfd named "forkfs:<name>" (cut to the kernel's limit of 249 bytes), close-on-exec, sealed against a change of size.
 * Returns 0, -ENOMEM, -EMFILE …; *ret is untouched on failure. */
int region_create_shared(struct region *ret, const char *name, uint64_t size, struct failure *why);

/* Takes a duplicate of the descriptor `memory`. Returns 0 or a negative errno. */
int region_create_file(struct region *ret, int memory, uint64_t size, struct failure *why);

/* Closes what the region holds; a zeroed or finished region is accepted. */
void region_finish(struct region *r);

/* Bytes of physical memory the region itself holds: blocks of the memfd; 0 for REGION_FILE (its pages belong to the file). */
uint64_t region_bytes(const struct region *r);

struct memory_source;

/* How a region looks while a process maps it. For REGION_SHARED the process isn't needed. A view borrows the region and may be used on a worker
 * while the loop goes on. */
struct region_view {
	const struct region *region;
	int mem;       /* /proc/PID/mem, REGION_FILE only, else -1 */
	int pagemap;   /* /proc/PID/pagemap, likewise; of REGION_SHARED since region_view_watch() */
	uint64_t base; /* where the process maps the region's first byte */
	/* Borrowed, may be NULL. REGION_SHARED: where the pages come from that are not in the memfd yet; REGION_FILE: the file, as a source. Set by whoever
	 * opened the view. */
	struct memory_source *under;
	pid_t writer; /* the process, where it maps the region at `base`, so that what is written goes the way of its own writes: no page is missed; or 0. Of
		       * REGION_SHARED set, with `base`, by whoever opened the view */
	bool guarded; /* likewise: a capture protects it, so that pages in swap can't be told from untouched ones when they are counted */
};

/* `pid` 0: nobody maps it (yet): reads see the file or memfd itself. The mapping is found by device and inode in /proc/PID/maps. Returns 0;
 * -ESRCH the process is gone or maps it not; -EACCES; other errnos of open. */
int region_view_open(struct region_view *ret, const struct region *r, pid_t pid, struct failure *why);
void region_view_finish(struct region_view *v);

/* Of a REGION_SHARED whose `base` is set: looks at what process `pid` writes, too. Returns 0, -ESRCH, other errnos of open. */
int region_view_watch(struct region_view *v, pid_t pid, struct failure *why);

/* As pread(2), cut at the region's end, never short otherwise; never makes a page of a hole. Returns bytes or a negative errno. */
ssize_t region_view_read(const struct region_view *v, void *buf, size_t n, uint64_t offset);

/* As pwrite(2): writes what the guest sees at once. -EFBIG beyond the end. -ESRCH the process is gone. */
ssize_t region_view_write(const struct region_view *v, const void *buf, size_t n, uint64_t offset);

struct extents;

/* Where there is data: the memfd's own and that of the source under it; of a private region the file's and the process's copied pages together, by PAGEMAP_SCAN where the
 * kernel has it (6.7), else by the bits of /proc/PID/pagemap. `*ret` must be zeroed. */
int region_view_extents(const struct region_view *v, struct extents *ret);

/* The pages that the guest copied on write (REGION_FILE), none of REGION_SHARED. `*ret` must be zeroed. Returns 0 or a negative errno. */
int region_view_own(const struct region_view *v, struct extents *ret);

/* The pages of a watched REGION_SHARED that were written since written_begin(), those that were written with what they had too. `*ret` must be zeroed. Returns 0; -EPERM
 * they are not noted, or not any more; -ENOTTY the view isn't watched or the kernel can't tell; another negative errno. *ret may have some of them then. */
int region_view_written(const struct region_view *v, struct extents *ret);

/* Bytes of the pages that the guest copied on write (REGION_FILE), 0 for REGION_SHARED. Returns a negative errno on failure. */
int64_t region_view_private(const struct region_view *v);

#endif
