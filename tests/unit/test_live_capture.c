/* SPDX-License-Identifier: Apache-2.0
 *
 * Captures of each kind of memory, one at a time, also while their caller writes to it. */
#include <criterion/criterion.h>
#include <sys/mman.h>

#include "tests/unit/capture_check.h"

#define VMS 5
#define CAPTURES_OF_A_VM 5

static struct failure why;

static void capture_many(enum kind kind)
{
	int early = 0;

	for (int i = 0; i < VMS; i++) {
		struct vm vm;

		start_vm(&vm, kind);
		for (int round = 0; round < CAPTURES_OF_A_VM; round++)
			early += capture(&vm, round);
		end_vm(&vm);
	}
	cr_assert_gt(early, 0, "nothing was read during a capture");
}

Test(live_capture, shared)
{
	capture_many(SHARED);
}

Test(live_capture, shared_over_a_source)
{
	capture_many(OVER_SOURCE);
}

Test(live_capture, private_whole)
{
	capture_many(WHOLE);
}

Test(live_capture, private_delta)
{
	capture_many(DELTA);
}

/* The second try must not unprotect what the first one has protected. */
Test(live_capture, one_at_a_time)
{
	static char expected[SIZE];
	AUTO_CLOSE int file = memfd_create("capture", MFD_CLOEXEC), other = memfd_create("other", MFD_CLOEXEC);
	struct outcome outcome = { 0 }, none = { 0 };
	struct live_capture *c, *second = NULL;
	struct memory_source *image;
	struct vm vm;

	start_vm(&vm, SHARED);
	cr_assert_eq(arm(&c, &vm, file, &outcome, &why), 0);
	cr_assert_eq(arm(&second, &vm, other, &none, &why), -EBUSY);
	cr_assert_eq(why.code, EBUSY);
	stop_child(&vm);
	look(&vm, expected);
	cr_assert_eq(live_capture_stop(c), 0);
	cr_assert_eq(arm(&second, &vm, other, &none, &why), -EBUSY);
	continue_child(&vm);
	await_writes(&vm, 1000);
	cr_assert_eq(live_capture_run(c), 0);
	image = live_capture_source(c);
	cr_assert_eq(await_done(&outcome), 0);
	compare(image, expected, SIZE, "afterwards");
	memory_source_unref(image);
	live_capture_destroy(c);
	cr_assert_eq(second, NULL);
	cr_assert_eq(atomic_load(&none.calls), 0);
	end_vm(&vm);
}

/* Written past the child's protection, before and after the stop: pages 0 and 4, which the child only reads, are left as they were in the end. */
static void claim_and_write(enum kind kind)
{
	static char expected[SIZE];
	AUTO_CLOSE int file = memfd_create("capture", MFD_CLOEXEC);
	struct outcome outcome = { 0 };
	struct memory_source *image;
	struct live_capture *c;
	uint64_t words[WORDS];
	struct vm vm;

	start_vm(&vm, kind);
	await_writes(&vm, 100);
	cr_assert_eq(arm(&c, &vm, file, &outcome, &why), 0, "%s", why.text);
	stop_child(&vm);
	cr_assert_eq(live_capture_claim(c, 0, 8), 0);
	cr_assert_eq(live_capture_claim(c, SIZE, 8), 0);
	cr_assert_eq(live_capture_claim(c, SIZE - 1, UINT64_MAX), 0);
	fill_page(words, 0xaaaa);
	cr_assert_eq(region_view_write(&vm.view, words, PAGE, 0), (ssize_t)PAGE);
	look(&vm, expected);
	cr_assert_eq(live_capture_stop(c), 0);
	fill_page(words, 0xbbbb);
	cr_assert_eq(live_capture_claim(c, 0, PAGE), 0);
	cr_assert_eq(live_capture_claim(c, 4 * PAGE + 100, 1), 0);
	cr_assert_eq(region_view_write(&vm.view, words, PAGE, 0), (ssize_t)PAGE);
	cr_assert_eq(region_view_write(&vm.view, words, PAGE, 4 * PAGE), (ssize_t)PAGE);
	cr_assert_eq(live_capture_run(c), 0);
	image = live_capture_source(c);
	cr_assert_eq(await_done(&outcome), 0, "%s", outcome.text);
	compare(image, expected, SIZE, "afterwards");
	cr_assert_eq(((uint64_t *)(void *)expected)[0], 0xaaaa);
	memory_source_unref(image);
	live_capture_destroy(c);
	fill_page(words, pattern(0));
	cr_assert_eq(region_view_write(&vm.view, words, PAGE, 0), (ssize_t)PAGE);
	fill_page(words, pattern(4));
	cr_assert_eq(region_view_write(&vm.view, words, PAGE, 4 * PAGE), (ssize_t)PAGE);
	continue_child(&vm);
	end_vm(&vm);
}

Test(live_capture, claimed_by_the_caller)
{
	claim_and_write(SHARED);
	claim_and_write(WHOLE);
	claim_and_write(DELTA);
}
