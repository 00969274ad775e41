/* SPDX-License-Identifier: Apache-2.0
 *
 * Captures that come to nothing: given up, their process killed, their file of no use, their region none that can be captured. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include "tests/unit/capture_check.h"
#include "tests/unit/leftovers.h"
#include "tests/unit/patience.h"
#include "vmm/memory/uffd.h"

static struct failure why;

/* Up to the state: 0 armed, 1 stopped, 2 running. */
static struct live_capture *bring_to(const struct vm *vm, int state, int file, struct outcome *o)
{
	struct live_capture *c;

	cr_assert_eq(arm(&c, vm, file, o, &why), 0, "%s", why.text);
	await_writes(vm, 20);
	if (state < 1)
		return c;
	stop_child(vm);
	cr_assert_eq(live_capture_stop(c), 0);
	continue_child(vm);
	if (state > 1)
		live_capture_run(c);
	return c;
}

Test(live_capture_failures, cancelled_in_each_state)
{
	for (enum kind kind = SHARED; kind <= DELTA; kind++) {
		struct vm vm;

		start_vm(&vm, kind);
		atomic_store(&vm.control->limit, PAGES);
		for (int state = 0; state < 3; state++) {
			AUTO_CLOSE int file = memfd_create("capture", MFD_CLOEXEC);
			struct outcome outcome = { 0 };
			struct live_capture *c = bring_to(&vm, state, file, &outcome);
			struct memory_source *image = live_capture_source(c);
			struct pager_stats before, after;
			int calls, r;
			char buf[16];

			live_capture_cancel(c);
			pager_region_stats(vm.paged, &before);
			calls = atomic_load(&outcome.calls);
			cr_assert(calls == 0 || (state == 2 && calls == 1));
			await_writes(&vm, 4 * PAGES);
			pager_region_stats(vm.paged, &after);
			cr_assert(calls || after.writes <= before.writes + WRITERS, "something is protected yet");
			r = memory_source_read(image, buf, sizeof buf, PAGE);
			cr_assert(r == -ECANCELED || (r == 0 && (state > 0 || kind == DELTA)), "state %d: %d", state, r);
			if (!calls)
				cr_assert_eq(live_capture_stop(c), -ECANCELED);
			live_capture_cancel(c);
			live_capture_destroy(c);
			memory_source_unref(image);
			cr_assert_eq(atomic_load(&outcome.calls), calls);
		}
		capture(&vm, 1);
		end_vm(&vm);
	}
	live_capture_destroy(NULL);
}

/* In the last state it may have been through before. */
Test(live_capture_failures, child_killed_in_each_state)
{
	for (enum kind kind = SHARED; kind <= DELTA; kind++)
		for (int state = 0; state < 3; state++) {
			AUTO_CLOSE int file = memfd_create("capture", MFD_CLOEXEC);
			struct outcome outcome = { 0 };
			struct live_capture *c;
			struct vm vm;
			int r;

			start_vm(&vm, kind);
			c = bring_to(&vm, state, file, &outcome);
			uffd_child_kill(&vm.child);
			if (state < 1)
				live_capture_stop(c);
			live_capture_run(c);
			r = await_done(&outcome);
			cr_assert(r == -ESRCH || (state == 2 && r == 0), "%d", r);
			cr_assert(r == 0 || *outcome.text);
			if (r < 0)
				cr_assert_eq(live_capture_run(c), -ESRCH);
			live_capture_destroy(c);
			r = arm(&c, &vm, file, &outcome, &why);
			cr_assert(r == -ESRCH || r == -EIO, "kind %d, state %d: %d, %s", kind, state, r, why.text);
			end_vm(&vm);
		}
}

static void fail_to_write(int file, int expected)
{
	for (enum kind kind = SHARED; kind <= DELTA; kind++) {
		struct outcome outcome = { 0 };
		struct live_capture *c;
		struct vm vm;

		start_vm(&vm, kind);
		atomic_store(&vm.control->limit, PAGES);
		await_writes(&vm, 4 * PAGES);
		c = bring_to(&vm, 2, file, &outcome);
		cr_assert_eq(await_done(&outcome), expected, "%s", outcome.text);
		cr_assert(*outcome.text);
		await_writes(&vm, 4 * PAGES);
		cr_assert_eq(live_capture_run(c), expected);
		cr_assert_eq(live_capture_claim(c, 0, PAGE), expected);
		live_capture_destroy(c);
		capture(&vm, 1);
		end_vm(&vm);
		cr_assert_eq(ftruncate(file, 0), 0);
	}
}

Test(live_capture_failures, file_without_room)
{
	char dir[] = "/tmp/test_live_capture_failures.XXXXXX", path[64];
	int file;

	cr_assert(mkdtemp(dir));
	if (mount("none", dir, "tmpfs", 0, "size=512k")) {
		rmdir(dir);
		cr_skip_test("no tmpfs may be mounted");
	}
	snprintf(path, sizeof path, "%s/file", dir);
	file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	umount2(dir, MNT_DETACH);
	rmdir(dir);
	cr_assert_geq(file, 0);
	fail_to_write(file, -ENOSPC);
	close(file);
}

Test(live_capture_failures, file_that_may_not_be_written)
{
	struct outcome outcome = { 0 };
	struct live_capture *c;
	struct vm vm;
	int file = memfd_create("capture", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	cr_assert_eq(ftruncate(file, SIZE), 0);
	cr_assert_eq(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE), 0);
	start_vm(&vm, SHARED);
	c = bring_to(&vm, 2, file, &outcome);
	cr_assert_eq(await_done(&outcome), -EPERM);
	live_capture_destroy(c);
	await_writes(&vm, 1000);
	cr_assert_eq(arm(&c, &vm, -1, &outcome, &why), -EBADF);
	close(file);
	end_vm(&vm);
}

/* Of a stopped child: until the pager has answered all that was asked, for what it is about to place can't be placed where nothing is registered. */
static void settle(const struct vm *vm)
{
	struct pollfd asked = { vm->child.uffd, POLLIN, 0 };
	time_t end = time(NULL) + PATIENCE;

	do {
		cr_assert_not(is_late(end), "the pager doesn't answer");
		cr_assert_eq(pager_place(vm->paged, 0, PAGE), 0); /* behind what its thread is at */
	} while (poll(&asked, 1, 0) > 0);
	cr_assert_eq(pager_place(vm->paged, 0, PAGE), 0);
}

/* The pager goes on serving a region that can't be captured. */
Test(live_capture_failures, region_that_is_not_registered_for_it)
{
	AUTO_CLOSE int file = memfd_create("capture", MFD_CLOEXEC);
	struct outcome outcome = { 0 };
	struct live_capture *c = NULL;
	struct vm vm;
	int r;

	start_vm(&vm, OVER_SOURCE);
	stop_child(&vm);
	settle(&vm);
	cr_assert_eq(uffd_unregister(vm.child.uffd, vm.child.base, SIZE), 0);
	cr_assert_eq(uffd_register(vm.child.uffd, vm.child.base, SIZE, UFFDIO_REGISTER_MODE_MISSING), 0);
	continue_child(&vm);
	for (int i = 0; i < 20; i++) {
		atomic_store(&vm.control->limit, 100u * (unsigned int)(i + 1));
		r = arm(&c, &vm, file, &outcome, &why);
		cr_assert_eq(r, -ENOENT, "%d, %s", r, why.text);
	}
	await_writes(&vm, 4 * PAGES);
	cr_assert_eq(c, NULL);
	end_vm(&vm);
}

Test(live_capture_failures, leaves_nothing_behind)
{
	struct leftovers before = count_leftovers();

	for (int i = 0; i < 50; i++) {
		struct outcome outcome = { 0 };
		int file = memfd_create("capture", MFD_CLOEXEC);
		struct live_capture *c;
		struct vm vm;

		start_vm(&vm, (enum kind)(i % 4));
		c = bring_to(&vm, i % 3, file, &outcome);
		if (i % 5 == 0)
			uffd_child_kill(&vm.child);
		if (i % 3 == 2)
			await_done(&outcome);
		live_capture_destroy(c);
		end_vm(&vm);
		close(file);
	}
	assert_nothing_left(&before);
}
