/* SPDX-License-Identifier: Apache-2.0
 *
 * Where missing pages come from: a memory that does not change any more. May be read by several threads at once. */
#ifndef FORKFS_MEMORY_SOURCE_H
#define FORKFS_MEMORY_SOURCE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/failure.h"
#include "vmm/memory/extents.h"

struct memory_source;

/* What is asked for lies within the source's size. All of them from any thread. */
struct memory_source_ops {
	/* Reads all `n` bytes. Returns 0 or a negative errno; never zeros for what it couldn't read. */
	int (*read)(struct memory_source *s, void *buf, size_t n, uint64_t offset);
	/* Whether there is data at `offset`: 1; 0: a hole, all zeros. What is true of it is so up to *ret_end. */
	int (*data)(struct memory_source *s, uint64_t offset, uint64_t *ret_end);
	/* Of a source that is a few pages over another one, what memory_source_own() says; NULL: all of it is its own. */
	int (*own)(struct memory_source *s, uint64_t offset, struct extent *ret);
	/* Puts into words why a read failed; NULL: nothing is known beyond the errno. */
	void (*explain)(struct memory_source *s, int error, struct failure *why);
	void (*destroy)(struct memory_source *s);
};

/* The first member of every implementation. */
struct memory_source {
	const struct memory_source_ops *ops;
	uint64_t size; /* bytes */
	atomic_uint refs;
};

/* Has one reference, the caller's. */
void memory_source_init(struct memory_source *s, const struct memory_source_ops *ops, uint64_t size);

/* The first `size` bytes of an ordinary file or memfd, which the source keeps a duplicate of. Where its data lies is looked up now and once: a file that
 * shrinks or is written to later gives -EIO, not zeros or other bytes. Returns 0 and the caller's reference; -EIO where it is shorter than `size`; -ENOMEM,
 * -EMFILE … `data`: where it lies, if that is known already; copied. */
int memory_source_create_file(struct memory_source **ret, int fd, uint64_t size, const struct extents *data, struct failure *why);

struct memory_source *memory_source_ref(struct memory_source *s);

/* NULL is accepted. */
void memory_source_unref(struct memory_source *s);

/* As the ops, for any range: what lies behind the source's end is a hole. */
int memory_source_read(struct memory_source *s, void *buf, size_t n, uint64_t offset);
int memory_source_data(struct memory_source *s, uint64_t offset, uint64_t *ret_end);

/* The next range, at or behind `offset`, of pages that a source over another has of its own. Returns 1, 0 where there is none, or a negative errno. */
int memory_source_own(struct memory_source *s, uint64_t offset, struct extent *ret);

/* After a read or look at `offset` failed with `error`: fills *why (NULL is accepted) with what is known of the reason. Returns `error`. */
int memory_source_explain(struct memory_source *s, int error, uint64_t offset, struct failure *why);

/* Where there is data, within the source's size. `*ret` must be zeroed. Returns 0 or a negative errno, *ret then empty. */
int memory_source_extents(struct memory_source *s, struct extents *ret);

/* Reads a file over a source: what is a hole in the file comes from the source (NULL: zeros), and no page comes into being. A hole that is filled from
 * the source meanwhile is filled with the same bytes. Returns 0 or a negative errno. */
int memory_source_read_over(struct memory_source *under, int file, void *buf, size_t n, uint64_t offset);

#endif
