/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/page_bits.h"

#include <errno.h>
#include <stdlib.h>

static uint64_t words_of(uint64_t pages)
{
	return pages / 64 + (pages % 64 != 0);
}

int page_bits_init(struct page_bits *b, uint64_t pages)
{
	_Atomic uint64_t *words = calloc(words_of(pages) + !pages, sizeof *words);

	if (!words)
		return -ENOMEM;
	*b = (struct page_bits){ pages, words };
	return 0;
}

void page_bits_finish(struct page_bits *b)
{
	free(b->words);
	*b = (struct page_bits){ 0 };
}

/* The bits of the word that `from` is in, from that one on and before `to`. */
static uint64_t mask_of(uint64_t from, uint64_t to)
{
	uint64_t left = to - from / 64 * 64;

	return ~0ull << (from % 64) & (left < 64 ? (1ull << left) - 1 : ~0ull);
}

void page_bits_set_range(struct page_bits *b, uint64_t from, uint64_t to)
{
	for (; from < to; from = (from / 64 + 1) * 64)
		atomic_fetch_or_explicit(&b->words[from / 64], mask_of(from, to), memory_order_acq_rel);
}

uint64_t page_bits_next(const struct page_bits *b, uint64_t from, uint64_t to, bool set)
{
	for (; from < to; from = (from / 64 + 1) * 64) {
		uint64_t word = atomic_load_explicit(&b->words[from / 64], memory_order_acquire);

		word = (set ? word : ~word) & mask_of(from, to);
		if (word)
			return from / 64 * 64 + (uint64_t)__builtin_ctzll(word);
	}
	return to;
}

void page_bits_merge(struct page_bits *b, const struct page_bits *other)
{
	for (uint64_t i = 0; i < words_of(b->pages); i++) {
		uint64_t word = atomic_load_explicit(&other->words[i], memory_order_acquire);

		if (word)
			atomic_fetch_or_explicit(&b->words[i], word, memory_order_acq_rel);
	}
}

uint64_t page_bits_count(const struct page_bits *b)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < words_of(b->pages); i++)
		sum += (uint64_t)__builtin_popcountll(atomic_load_explicit(&b->words[i], memory_order_relaxed));
	return sum;
}
