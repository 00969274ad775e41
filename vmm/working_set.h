/* SPDX-License-Identifier: Apache-2.0
 *
 * The pages of a snapshot's memory that its children really asked for, so that the next ones get them before they ask. Kept in the snapshot's directory as the
 * text file "workingset" (docs/snapshot.md), bound to the identity of the memory. */
#ifndef FORKFS_WORKING_SET_H
#define FORKFS_WORKING_SET_H

#include <stdatomic.h>

#include "vmm/base/failure.h"
#include "vmm/base/text.h"
#include "vmm/memory/extents.h"
#include "vmm/memory/page_bits.h"

#define WORKING_SET_FILE "workingset"
#define WORKING_SET_MAX (4u << 20) /* bytes of the file */

struct working_set {
	atomic_uint refs;
	struct extents pages;
};

struct working_set *working_set_ref(struct working_set *w);

/* NULL is accepted. */
void working_set_unref(struct working_set *w);

/* Reads the text. Returns 0; -EINVAL it is malformed; -ESTALE it speaks of another memory than `identity`, `size` bytes; -ENOMEM. */
int working_set_parse(struct working_set **ret, const char *text, size_t n, const char *identity, uint64_t size, struct failure *why);

/* Writes it as text. */
void working_set_print(const struct extents *pages, const char *identity, uint64_t size, struct text *ret);

/* The pages whose bits are set, and those of `old` (NULL: none). `*ret` must be zeroed. Returns 0 or -ENOMEM. */
int working_set_merge(struct extents *ret, const struct page_bits *bits, const struct working_set *old);

#endif
