/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/cleanup.h"
#include "vmm/memory/extents.h"

#define PAGE ((uint64_t)PAGE_BYTES)

static void expect(const struct extents *e, const struct extent *want, size_t n)
{
	cr_assert_eq(e->count, n, "%zu ranges instead of %zu", e->count, n);
	for (size_t i = 0; i < n; i++) {
		cr_assert_eq(e->list[i].start, want[i].start, "range %zu starts at %#lx", i, e->list[i].start);
		cr_assert_eq(e->list[i].end, want[i].end, "range %zu ends at %#lx", i, e->list[i].end);
	}
}

#define EXPECT(e, ...) expect(e, (const struct extent[]){ __VA_ARGS__ }, ARRAY_LEN(((const struct extent[]){ __VA_ARGS__ })))

Test(extents, add_widens_to_pages)
{
	AUTO_EXTENTS struct extents e = { 0 };

	cr_assert_eq(extents_add(&e, 1, 2), 0);
	cr_assert_eq(extents_add(&e, 3 * PAGE - 1, 3 * PAGE + 1), 0);
	EXPECT(&e, { 0, PAGE }, { 2 * PAGE, 4 * PAGE });
	cr_assert_eq(extents_bytes(&e), 3 * PAGE);
}

Test(extents, add_joins_what_overlaps_or_touches)
{
	AUTO_EXTENTS struct extents e = { 0 };

	cr_assert_eq(extents_add(&e, 0, 4 * PAGE), 0);
	cr_assert_eq(extents_add(&e, PAGE, 2 * PAGE), 0);
	EXPECT(&e, { 0, 4 * PAGE });
	cr_assert_eq(extents_add(&e, 4 * PAGE, 5 * PAGE), 0);
	cr_assert_eq(extents_add(&e, 4 * PAGE + 1, 8 * PAGE), 0);
	cr_assert_eq(extents_add(&e, 9 * PAGE, 10 * PAGE), 0);
	EXPECT(&e, { 0, 8 * PAGE }, { 9 * PAGE, 10 * PAGE });
}

Test(extents, add_refuses)
{
	AUTO_EXTENTS struct extents e = { 0 };

	cr_assert_eq(extents_add(&e, 5, 5), -EINVAL);
	cr_assert_eq(extents_add(&e, 6, 5), -EINVAL);
	cr_assert_eq(extents_add(&e, 0, UINT64_MAX), -EINVAL);
	cr_assert_eq(extents_add(&e, 4 * PAGE, 5 * PAGE), 0);
	cr_assert_eq(extents_add(&e, 3 * PAGE, 5 * PAGE), -EINVAL);
	EXPECT(&e, { 4 * PAGE, 5 * PAGE });
}

Test(extents, many)
{
	AUTO_EXTENTS struct extents e = { 0 };

	for (uint64_t i = 0; i < 1000; i++)
		cr_assert_eq(extents_add(&e, 2 * i * PAGE, (2 * i + 1) * PAGE), 0);
	cr_assert_eq(e.count, 1000);
	cr_assert_eq(extents_bytes(&e), 1000 * PAGE);
	cr_assert_eq(extents_find(&e, 0), 0);
	cr_assert_eq(extents_find(&e, PAGE - 1), 0);
	cr_assert_eq(extents_find(&e, PAGE), 1);
	cr_assert_eq(extents_find(&e, 999 * 2 * PAGE), 999);
	cr_assert_eq(extents_find(&e, 999 * 2 * PAGE + PAGE), 1000);
}

Test(extents, find_in_nothing)
{
	cr_assert_eq(extents_find(&(struct extents){ 0 }, 0), 0);
}

Test(extents, scan)
{
	AUTO_CLOSE int fd = memfd_create("scan", MFD_CLOEXEC);
	AUTO_EXTENTS struct extents e = { 0 }, first = { 0 };

	cr_assert_eq(ftruncate(fd, 64 * PAGE), 0);
	cr_assert_eq(pwrite(fd, "a", 1, 3 * PAGE + 7), 1);
	cr_assert_eq(pwrite(fd, "b", 1, 10 * PAGE), 1);
	cr_assert_eq(pwrite(fd, "c", 1, 11 * PAGE), 1);
	cr_assert_eq(pwrite(fd, "d", 1, 64 * PAGE - 1), 1);
	cr_assert_eq(extents_scan(&e, fd, 64 * PAGE), 0);
	EXPECT(&e, { 3 * PAGE, 4 * PAGE }, { 10 * PAGE, 12 * PAGE }, { 63 * PAGE, 64 * PAGE });
	cr_assert_eq(extents_scan(&first, fd, 11 * PAGE), 0);
	EXPECT(&first, { 3 * PAGE, 4 * PAGE }, { 10 * PAGE, 11 * PAGE });
}

Test(extents, scan_of_a_hole_and_of_nothing)
{
	AUTO_CLOSE int fd = memfd_create("scan", MFD_CLOEXEC);
	AUTO_EXTENTS struct extents e = { 0 };

	cr_assert_eq(extents_scan(&e, fd, 0), 0);
	cr_assert_eq(ftruncate(fd, 64 * PAGE), 0);
	cr_assert_eq(extents_scan(&e, fd, 64 * PAGE), 0);
	cr_assert_eq(e.count, 0);
}

Test(extents, scan_fails)
{
	AUTO_EXTENTS struct extents e = { 0 };
	int pipes[2];

	cr_assert_eq(extents_scan(&e, -1, PAGE), -EBADF);
	cr_assert_eq(pipe(pipes), 0);
	cr_assert_eq(extents_scan(&e, pipes[0], PAGE), -ESPIPE);
	cr_assert_null(e.list);
}

Test(extents, union_of_two)
{
	AUTO_EXTENTS struct extents a = { 0 }, b = { 0 }, both = { 0 }, other = { 0 };

	extents_add(&a, 0, 2 * PAGE);
	extents_add(&a, 8 * PAGE, 9 * PAGE);
	extents_add(&b, PAGE, 3 * PAGE);
	extents_add(&b, 5 * PAGE, 6 * PAGE);
	extents_add(&b, 9 * PAGE, 10 * PAGE);
	cr_assert_eq(extents_union(&both, &a, &b), 0);
	cr_assert_eq(extents_union(&other, &b, &a), 0);
	EXPECT(&both, { 0, 3 * PAGE }, { 5 * PAGE, 6 * PAGE }, { 8 * PAGE, 10 * PAGE });
	expect(&other, both.list, both.count);
}

Test(extents, union_with_nothing)
{
	AUTO_EXTENTS struct extents a = { 0 }, none = { 0 }, both = { 0 };

	extents_add(&a, PAGE, 2 * PAGE);
	cr_assert_eq(extents_union(&both, &none, &a), 0);
	EXPECT(&both, { PAGE, 2 * PAGE });
}
