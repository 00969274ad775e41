/* SPDX-License-Identifier: Apache-2.0
 *
 * What the pager can't serve: its source fails, its process dies, it is removed or dies itself while somebody waits. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>

#include "tests/unit/leftovers.h"
#include "tests/unit/pager_fixture.h"
#include "vmm/memory/uffd.h"

#define MOMENT 100 /* ms that something must not happen in */

static struct failure why;

/* And is adopted by a pager whose source is better. */
Test(pager_failures, source_that_fails)
{
	struct page_bits demanded;
	struct fixture f;

	fixture_start(&f);
	cr_assert_eq(page_bits_init(&demanded, PAGES), 0);
	atomic_store(&f.source->bad_from, 9 * PAGE);
	atomic_store(&f.source->bad_to, 12 * PAGE);
	f.options.demanded = &demanded;
	fixture_serve(&f);
	assert_reads(&f.child, 8, pattern(8));
	await_step(&f);
	cr_assert_eq(page_bits_count(&demanded), 1, "a neighbour cost it its mark");
	cr_assert_eq(atomic_load(&f.told.broke), 0);
	cr_assert_eq(pager_place(f.region, 9 * PAGE, 1), -EIO);
	cr_assert_eq(atomic_load(&f.told.broke), 0);
	order(&f.child, 'r', 9, 0);
	await(&f.told.broke, 1, "nothing is told");
	cr_assert_eq(f.told.why.code, EIO);
	cr_assert_str_eq(f.told.why.text, "the test has it so");
	cr_assert_not(answers_within(&f.child, MOMENT), "it got something");
	cr_assert_not(is_there(&f.child, 9));
	cr_assert_eq(pager_place(f.region, 20 * PAGE, 1), -EIO);
	fixture_remove(&f);
	cr_assert_not(answers_within(&f.child, MOMENT));
	pager_destroy(f.pager);
	cr_assert_eq(atomic_load(&f.told.broke), 1);
	atomic_store(&f.source->bad_to, 0);
	cr_assert_eq(pager_create(&f.pager, &why), 0, "%s", why.text);
	f.options.adopt = true;
	fixture_serve(&f);
	cr_assert_eq(await_answer(&f.child).first, pattern(9));
	cr_assert_eq(ask(&f.child, 'a', 0, 0).first, 0);
	fixture_end(&f);
	page_bits_finish(&demanded);
}

Test(pager_failures, source_that_fails_in_the_background)
{
	struct pager_stats stats;
	struct fixture f;

	fixture_start(&f);
	atomic_store(&f.source->bad_from, 500 * PAGE);
	atomic_store(&f.source->bad_to, 501 * PAGE);
	f.options.fill = true;
	fixture_serve(&f);
	await(&f.told.broke, 1, "nothing is told");
	pager_region_stats(f.region, &stats);
	cr_assert_not(stats.complete);
	order(&f.child, 'r', 500, 0);
	cr_assert_not(answers_within(&f.child, MOMENT));
	fixture_remove(&f);
	cr_assert(atomic_load(&f.told.broke) == 1 && atomic_load(&f.told.filled) == 0);
	fixture_end(&f);
}

Test(pager_failures, child_killed_while_it_is_served)
{
	for (int fill = 0; fill < 2; fill++) {
		struct fixture f;

		fixture_start(&f);
		atomic_store(&f.source->shut, true);
		f.options.fill = fill;
		fixture_serve(&f);
		if (!fill)
			order(&f.child, 'a', 0, 0);
		await(&f.source->waiting, 1, "nobody reads");
		uffd_child_kill(&f.child);
		atomic_store(&f.source->shut, false);
		await(&f.told.broke, 1, "nothing is told");
		cr_assert_eq(f.told.why.code, ESRCH);
		cr_assert(*f.told.why.text);
		cr_assert_eq(pager_place(f.region, 0, SIZE), -EIO);
		fixture_remove(&f);
		cr_assert_eq(atomic_load(&f.told.broke), 1);
		f.options.adopt = true;
		cr_assert_eq(pager_add(&f.region, f.pager, &f.options, &why), -ESRCH);
		fixture_end(&f);
	}
}

struct opening {
	struct fake_source *source;
	pid_t waiter;
};

/* Lets the readers go on once the thread `waiter` sleeps. */
static void *open_later(void *data)
{
	const struct opening *o = data;
	char path[64], state = 'R';

	snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)o->waiter);
	for (time_t end = time(NULL) + PATIENCE; state != 'S' && !is_late(end);) {
		FILE *f = fopen(path, "re");

		if (!f || fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			state = 'R';
		if (f)
			fclose(f);
	}
	atomic_store(&o->source->shut, false);
	return NULL;
}

Test(pager_failures, removed_with_faults_outstanding)
{
	for (int i = 0; i < 10; i++) {
		struct opening opening;
		pthread_t thread;
		struct fixture f;

		fixture_start(&f);
		atomic_store(&f.source->shut, true);
		f.options.cluster = PAGE_BYTES;
		fixture_serve(&f);
		order(&f.child, 'a', 0, 0);
		await(&f.source->waiting, 1, "nobody reads");
		opening = (struct opening){ f.source, gettid() };
		cr_assert_eq(pthread_create(&thread, NULL, open_later, &opening), 0);
		fixture_remove(&f);
		pthread_join(thread, NULL);
		if (i == 0)
			cr_assert_not(answers_within(&f.child, MOMENT));
		f.options.adopt = true;
		fixture_serve(&f);
		cr_assert_eq(await_answer(&f.child).first, 0);
		fixture_remove(&f);
		cr_assert_eq(atomic_load(&f.told.broke), 0);
		fixture_end(&f);
	}
}

/* Takes the next message away from whoever serves the child. */
static struct uffd_msg lose_message(const struct uffd_child *c)
{
	struct uffd_msg lost;

	for (time_t end = time(NULL) + PATIENCE; uffd_read(c->uffd, &lost, 1) != 1;)
		cr_assert_not(is_late(end), "no fault comes");
	return lost;
}

/* A pager that dies takes the messages with it that it has read, and leaves what it has protected. */
Test(pager_failures, adopts_from_one_that_died)
{
	struct fixture f;

	fixture_start(&f);
	cr_assert_eq(pwrite(f.child.memory, &(uint64_t){ 5 }, 8, 3 * PAGE), 8);
	cr_assert_eq(ask(&f.child, 'r', 3, 0).first, 5);
	cr_assert_eq(uffd_writeprotect(f.child.uffd, f.child.base, SIZE, true), 0);
	order(&f.child, 'w', 3, 17);
	cr_assert(lose_message(&f.child).arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP);
	fixture_serve(&f);
	cr_assert_not(answers_within(&f.child, MOMENT), "nobody knows of it");
	fixture_remove(&f);
	f.options.adopt = true;
	fixture_serve(&f);
	cr_assert_eq(await_answer(&f.child).first, 17);
	fixture_remove(&f);
	cr_assert_eq(uffd_unregister(f.child.uffd, f.child.base, SIZE), 0);
	cr_assert_eq(uffd_register(f.child.uffd, f.child.base, SIZE, UFFDIO_REGISTER_MODE_MISSING), 0);
	order(&f.child, 'r', 8, 0);
	lose_message(&f.child);
	fixture_serve(&f);
	cr_assert_eq(await_answer(&f.child).first, pattern(8));
	fixture_end(&f);
}

/* The process has the same open file as we, and could keep the thread of all the others waiting. */
Test(pager_failures, descriptor_that_its_process_spoils)
{
	struct pager_region *other;
	struct told good = { 0 };
	struct pager_options o;
	struct uffd_child second;
	struct fixture f;

	pager_child_start(&second);
	fixture_start(&f);
	fixture_serve(&f);
	o = f.options;
	o.uffd = second.uffd;
	o.base = second.base;
	o.data = &good;
	cr_assert_eq(pager_add(&other, f.pager, &o, &why), 0, "%s", why.text);
	assert_reads(&f.child, 0, pattern(0));
	cr_assert_eq(fcntl(f.child.uffd, F_SETFL, fcntl(f.child.uffd, F_GETFL) & ~O_NONBLOCK), 0);
	order(&f.child, 'r', 100, 0);
	await(&f.told.broke, 1, "nothing is told");
	cr_assert_eq(f.told.why.code, ESRCH);
	cr_assert_eq(ask(&second, 'a', 0, 0).first, 0);
	cr_assert_eq(atomic_load(&good.broke), 0);
	pager_remove(other);
	fixture_end(&f);
	uffd_child_end(&second);
}

Test(pager_failures, what_can_not_be_served)
{
	AUTO_CLOSE int plain = memfd_create("plain", MFD_CLOEXEC);
	struct pager_options o;
	struct fixture f;

	fixture_start(&f);
	f.options.source = NULL;
	o = f.options;
	o.size = PAGE + 1;
	cr_assert_eq(pager_add(&f.region, f.pager, &o, &why), -EINVAL);
	o.size = 0;
	cr_assert_eq(pager_add(&f.region, f.pager, &o, NULL), -EINVAL);
	o = f.options;
	o.cluster = 3 * PAGE_BYTES;
	cr_assert_eq(pager_add(&f.region, f.pager, &o, &why), -EINVAL);
	o.cluster = 2 * PAGER_CLUSTER_MAX;
	cr_assert_eq(pager_add(&f.region, f.pager, &o, &why), -EINVAL);
	o = f.options;
	o.uffd = -1;
	cr_assert_eq(pager_add(&f.region, f.pager, &o, &why), -EBADF);
	o.uffd = plain;
	cr_assert_eq(pager_add(&f.region, f.pager, &o, &why), -EPERM);
	cr_assert_eq(f.region, NULL);
	pager_remove(NULL);
	pager_destroy(NULL);
	fixture_end(&f);
}

Test(pager_failures, leaves_nothing_behind)
{
	struct leftovers before = count_leftovers();

	for (int i = 0; i < 50; i++) {
		struct fixture f;

		fixture_start(&f);
		f.options.fill = i % 2;
		fixture_serve(&f);
		order(&f.child, 'a', 0, 0);
		if (i % 3 == 0)
			uffd_child_kill(&f.child);
		else if (i % 3 == 1)
			cr_assert_eq(await_answer(&f.child).first, 0);
		fixture_end(&f);
	}
	assert_nothing_left(&before);
}
