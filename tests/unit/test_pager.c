/* SPDX-License-Identifier: Apache-2.0
 *
 * What the pager places, and when: at faults, in the background, and for its caller. */
#include <criterion/criterion.h>
#include <fcntl.h>

#include "tests/unit/pager_fixture.h"

static void all_pages(bool fill, uint32_t cluster)
{
	struct pager_stats stats;
	struct fixture f;

	fixture_start(&f);
	f.options.fill = fill;
	f.options.cluster = cluster;
	fixture_serve(&f);
	cr_assert_eq(ask(&f.child, 'a', 0, 0).first, 0, "the child read what was not there");
	if (fill)
		await(&f.told.filled, 1, "it is never filled");
	assert_there(&f.child, 0, PAGES, PAGES);
	await_step(&f);
	pager_region_stats(f.region, &stats);
	cr_assert(fill || stats.faults > 0);
	cr_assert_eq(stats.filled, SIZE);
	cr_assert(stats.complete);
	fixture_remove(&f);
	cr_assert_eq(atomic_load(&f.told.broke), 0, "%s", f.told.why.text);
	cr_assert_eq(atomic_load(&f.told.filled), fill);
	fixture_end(&f);
}

Test(pager, all_pages_on_demand)
{
	all_pages(false, 0);
	all_pages(false, PAGE_BYTES);
	all_pages(false, PAGER_CLUSTER_MAX);
}

Test(pager, all_pages_while_they_are_filled)
{
	for (int i = 0; i < 10; i++)
		all_pages(true, i % 2 ? PAGE_BYTES : 0);
}

/* Pages 6 and 13 are holes. */
Test(pager, clusters)
{
	struct page_bits demanded;
	struct pager_stats stats;
	struct fixture f;

	fixture_start(&f);
	cr_assert_eq(page_bits_init(&demanded, PAGES), 0);
	f.options.cluster = 4 * PAGE_BYTES;
	f.options.demanded = &demanded;
	fixture_serve(&f);
	assert_reads(&f.child, 5, pattern(5));
	assert_there(&f.child, 4, 6, PAGES);
	assert_reads(&f.child, 6, 0);
	assert_there(&f.child, 4, 7, PAGES);
	assert_reads(&f.child, 4, pattern(4));
	assert_reads(&f.child, 8, pattern(8));
	assert_there(&f.child, 4, 12, 4);
	cr_assert(!is_there(&f.child, 7) && is_there(&f.child, 8) && is_there(&f.child, 11) && !is_there(&f.child, 12));
	cr_assert_eq(pager_place(f.region, 17 * PAGE, PAGE), 0);
	assert_reads(&f.child, 18, pattern(18));
	cr_assert(!is_there(&f.child, 16) && is_there(&f.child, 19), "only what lies next to it, up to what is there");
	await_step(&f);
	pager_region_stats(f.region, &stats);
	cr_assert_eq(stats.faults, 4);
	cr_assert_eq(stats.filled, 10 * PAGE);
	fixture_remove(&f);
	cr_assert_eq(page_bits_count(&demanded), 9);
	cr_assert(page_bits_test(&demanded, 5) && page_bits_test(&demanded, 6) && page_bits_test(&demanded, 18));
	cr_assert_not(page_bits_test(&demanded, 17), "nobody asked for it");
	page_bits_finish(&demanded);
	fixture_end(&f);
}

Test(pager, first_comes_before_the_rest)
{
	AUTO_EXTENTS struct extents first = { 0 };
	struct page_bits demanded;
	struct fixture f;

	fixture_start(&f);
	cr_assert_eq(page_bits_init(&demanded, PAGES), 0);
	cr_assert_eq(extents_add(&first, 700 * PAGE, 702 * PAGE), 0);
	cr_assert_eq(extents_add(&first, 900 * PAGE, 901 * PAGE), 0);
	cr_assert_eq(extents_add(&first, (PAGES - 1) * PAGE, (PAGES + 9) * PAGE), 0);
	f.options.first = &first;
	f.options.fill = true;
	f.options.demanded = &demanded;
	fixture_serve(&f);
	extents_finish(&first);
	await(&f.told.filled, 1, "it is never filled");
	cr_assert_eq(f.source->log[0], 700 * PAGE);
	cr_assert_eq(f.source->log[1], 900 * PAGE);
	cr_assert_eq(f.source->log[2], (PAGES - 1) * PAGE);
	cr_assert_eq(f.source->log[3], 0);
	for (uint64_t page = 0; page < PAGES; page++)
		cr_assert_eq(is_there(&f.child, page), page % 7 != 6, "page %lu", page);
	cr_assert_eq(ask(&f.child, 'a', 0, 0).first, 0);
	fixture_remove(&f);
	for (uint64_t page = page_bits_next(&demanded, 0, PAGES, true); page < PAGES; page = page_bits_next(&demanded, page + 1, PAGES, true))
		cr_assert_eq(page % 7, 6, "page %lu was there before anybody asked", page);
	cr_assert_eq(atomic_load(&f.told.filled), 1);
	page_bits_finish(&demanded);
	fixture_end(&f);
}

/* What is asked for comes all the same; a region that is removed before it began is as good as any. */
Test(pager, held)
{
	struct fixture f;

	fixture_start(&f);
	f.options.fill = f.options.held = true;
	fixture_serve(&f);
	assert_reads(&f.child, 700, pattern(700));
	await_step(&f);
	cr_assert(is_there(&f.child, 700) && !is_there(&f.child, 0) && !is_there(&f.child, PAGES - 1), "it was to wait");
	cr_assert_eq(atomic_load(&f.told.filled), 0);
	pager_begin(f.region);
	await(&f.told.filled, 1, "it is never filled");
	cr_assert(is_there(&f.child, 0));
	fixture_end(&f);
	fixture_start(&f);
	f.options.fill = f.options.held = true;
	fixture_serve(&f);
	fixture_remove(&f);
	fixture_serve(&f);
	pager_begin(f.region);
	fixture_end(&f);
}

Test(pager, first_alone)
{
	AUTO_EXTENTS struct extents first = { 0 };
	struct fixture f;

	fixture_start(&f);
	cr_assert_eq(extents_add(&first, 100 * PAGE, 200 * PAGE), 0);
	f.options.first = &first;
	fixture_serve(&f);
	await(&f.told.filled, 1, "it is never filled");
	assert_there(&f.child, 100, 200, PAGES);
	assert_reads(&f.child, 104, 0);
	assert_reads(&f.child, 105, pattern(105));
	fixture_end(&f);
}

/* Also what was given back, whatever the source has there. */
Test(pager, zeros)
{
	struct fixture f;

	fixture_start(&f);
	f.options.source = NULL;
	f.options.fill = true;
	fixture_serve(&f);
	assert_reads(&f.child, 5, 0);
	cr_assert_eq(ask(&f.child, 'w', 5, 7).first, 7);
	fixture_remove(&f);
	cr_assert_eq(fallocate(f.child.memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE), 0);
	f.options.source = &f.source->base;
	f.options.fill = false;
	fixture_serve(&f);
	assert_reads(&f.child, 5, pattern(5));
	cr_assert_eq(fallocate(f.child.memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE), 0);
	assert_reads(&f.child, 5, 0);
	fixture_end(&f);
}

Test(pager, place)
{
	struct fixture f;
	char c;

	fixture_start(&f);
	fixture_serve(&f);
	cr_assert_eq(pager_place(f.region, 7 * PAGE + 100, PAGE), 0);
	assert_there(&f.child, 7, 9, PAGES);
	cr_assert_eq(pread(f.child.memory, &c, 1, 8 * PAGE), 1);
	cr_assert_eq((uint64_t)c, pattern(8) & 0xff);
	cr_assert_eq(pwrite(f.child.memory, &(uint64_t){ 99 }, 8, 8 * PAGE), 8);
	cr_assert_eq(ask(&f.child, 'r', 8, 0).first, 99);
	cr_assert_eq(ask(&f.child, 'r', 8, 0).last, pattern(8));
	cr_assert_eq(pager_place(f.region, 8 * PAGE, PAGE), 0);
	cr_assert_eq(ask(&f.child, 'r', 8, 0).first, 99, "placed again");
	cr_assert_eq(pwrite(f.child.memory, &(uint64_t){ 98 }, 8, 40 * PAGE), 8);
	cr_assert_eq(pager_place(f.region, 39 * PAGE, 3 * PAGE), 0, "one of them is there");
	cr_assert_eq(ask(&f.child, 'r', 40, 0).first, 98);
	assert_reads(&f.child, 39, pattern(39));
	assert_reads(&f.child, 41, 0);
	cr_assert_eq(pager_place(f.region, 5, 0), 0);
	cr_assert_eq(pager_place(f.region, SIZE, 1), 0);
	cr_assert_eq(pager_place(f.region, SIZE - 1, UINT64_MAX), 0);
	cr_assert(is_there(&f.child, PAGES - 1));
	cr_assert_eq(pager_place(f.region, 0, SIZE), 0);
	assert_there(&f.child, 0, PAGES, PAGES);
	fixture_end(&f);
}
