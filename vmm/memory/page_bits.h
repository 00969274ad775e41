/* SPDX-License-Identifier: Apache-2.0
 *
 * One bit a page, to be set and looked at by several threads without a lock. What a thread did before it set a bit is seen by whoever finds it set.
 * Pages are counted from 0; ranges exclude their end. */
#ifndef FORKFS_MEMORY_PAGE_BITS_H
#define FORKFS_MEMORY_PAGE_BITS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct page_bits {
	uint64_t pages;
	_Atomic uint64_t *words;
};

/* All bits clear. Returns 0 or -ENOMEM. */
int page_bits_init(struct page_bits *b, uint64_t pages);

/* A zeroed or finished one is accepted. */
void page_bits_finish(struct page_bits *b);

static inline bool page_bits_test(const struct page_bits *b, uint64_t page)
{
	return atomic_load_explicit(&b->words[page / 64], memory_order_acquire) >> (page % 64) & 1;
}

static inline void page_bits_set(struct page_bits *b, uint64_t page)
{
	atomic_fetch_or_explicit(&b->words[page / 64], 1ull << (page % 64), memory_order_acq_rel);
}

/* As page_bits_test(), but never answered before what the thread read earlier: reads that must have been done while the bit was clear. */
static inline bool page_bits_test_after_reads(struct page_bits *b, uint64_t page)
{
	return atomic_fetch_or(&b->words[page / 64], 0) >> (page % 64) & 1;
}

void page_bits_set_range(struct page_bits *b, uint64_t from, uint64_t to);

/* The first page of [from, to) whose bit is `set`, `to` where there is none. */
uint64_t page_bits_next(const struct page_bits *b, uint64_t from, uint64_t to, bool set);

/* Sets what is set in the other one, of the same size. */
void page_bits_merge(struct page_bits *b, const struct page_bits *other);

/* How many are set. */
uint64_t page_bits_count(const struct page_bits *b);

#endif
