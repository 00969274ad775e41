/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>

#include "vmm/memory/page_bits.h"

/* One bit at a time, as no word would do it. */
static void assert_range(uint64_t pages, uint64_t from, uint64_t to)
{
	struct page_bits b;

	cr_assert_eq(page_bits_init(&b, pages), 0);
	page_bits_set_range(&b, from, to);
	for (uint64_t i = 0; i < pages; i++)
		cr_assert_eq(page_bits_test(&b, i), i >= from && i < to, "[%lu, %lu): page %lu", from, to, i);
	cr_assert_eq(page_bits_count(&b), from < to ? to - from : 0);
	page_bits_finish(&b);
	page_bits_finish(&b);
}

Test(page_bits, ranges_at_the_edges_of_words)
{
	static const uint64_t edges[] = { 0, 1, 62, 63, 64, 65, 127, 128, 129, 191, 192, 199, 200 };

	for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
		for (size_t j = 0; j < sizeof edges / sizeof *edges; j++)
			assert_range(200, edges[i], edges[j]);
	assert_range(64, 0, 64);
	assert_range(1, 0, 1);
}

Test(page_bits, next)
{
	static const uint64_t set[] = { 0, 63, 64, 130, 191 };
	struct page_bits b;

	cr_assert_eq(page_bits_init(&b, 200), 0);
	for (size_t i = 0; i < sizeof set / sizeof *set; i++)
		page_bits_set(&b, set[i]);
	for (uint64_t from = 0; from <= 200; from++)
		for (uint64_t to = 0; to <= 200; to++)
			for (int which = 0; which < 2; which++) {
				uint64_t at = from < to ? from : to;

				while (at < to && page_bits_test(&b, at) != which)
					at++;
				cr_assert_eq(page_bits_next(&b, from, to, which), at, "[%lu, %lu) %d", from, to, which);
			}
	cr_assert_eq(page_bits_count(&b), 5);
	cr_assert(page_bits_test_after_reads(&b, 63));
	cr_assert_not(page_bits_test_after_reads(&b, 65));
	page_bits_finish(&b);
}

Test(page_bits, merge)
{
	struct page_bits a, b;

	cr_assert_eq(page_bits_init(&a, 130), 0);
	cr_assert_eq(page_bits_init(&b, 130), 0);
	page_bits_set_range(&a, 60, 70);
	page_bits_set(&b, 65);
	page_bits_set(&b, 129);
	page_bits_merge(&a, &b);
	cr_assert_eq(page_bits_count(&a), 11);
	cr_assert(page_bits_test(&a, 129));
	cr_assert_eq(page_bits_count(&b), 2);
	page_bits_finish(&a);
	page_bits_finish(&b);
}

Test(page_bits, none_and_too_many)
{
	struct page_bits b = { 0 };

	page_bits_finish(&b);
	cr_assert_eq(page_bits_init(&b, 0), 0);
	cr_assert_eq(page_bits_count(&b), 0);
	cr_assert_eq(page_bits_next(&b, 0, 0, false), 0);
	page_bits_finish(&b);
}

struct half {
	struct page_bits *bits;
	uint64_t odd;
};

static void *set_half(void *data)
{
	const struct half *h = data;

	for (uint64_t i = h->odd; i < h->bits->pages; i += 2)
		page_bits_set(h->bits, i);
	return NULL;
}

Test(page_bits, set_by_two_threads)
{
	struct page_bits b;
	struct half halves[2] = { { &b, 0 }, { &b, 1 } };
	pthread_t threads[2];

	cr_assert_eq(page_bits_init(&b, 100000), 0);
	for (int i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, set_half, &halves[i]), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(page_bits_count(&b), 100000);
	page_bits_finish(&b);
}
