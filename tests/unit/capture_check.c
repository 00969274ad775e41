/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tests/unit/capture_check.h"
#include "tests/unit/patience.h"

static void done(void *data, int result, const struct failure *reason)
{
	struct outcome *o = data;

	snprintf(o->text, sizeof o->text, "%s", reason ? reason->text : "");
	atomic_store(&o->result, result);
	atomic_fetch_add(&o->calls, 1);
}

int await_done(const struct outcome *o)
{
	await(&o->calls, 1, "the capture doesn't end");
	cr_assert_eq(atomic_load(&o->calls), 1);
	return atomic_load(&o->result);
}

int arm(struct live_capture **ret, const struct vm *vm, int file, struct outcome *o, struct failure *why)
{
	struct live_capture_options options = { .region = vm->paged, .view = &vm->view, .file = file, .done = done, .data = o };

	return live_capture_arm(ret, &options, why);
}

static void assert_page(const char *a, const char *b, uint64_t page, const char *when)
{
	cr_assert_eq(memcmp(a + page * PAGE, b + page * PAGE, PAGE), 0, "page %lu differs %s: %lx, it was %lx", page, when,
		     ((const uint64_t *)(const void *)a)[page * WORDS], ((const uint64_t *)(const void *)b)[page * WORDS]);
}

void compare(struct memory_source *image, const char *expected, uint64_t piece, const char *when)
{
	static char buf[SIZE];

	for (uint64_t at = 0; at < SIZE; at += piece)
		cr_assert_eq(memory_source_read(image, buf + at, SIZE - at < piece ? SIZE - at : piece, at), 0);
	for (uint64_t page = 0; page < PAGES; page++)
		assert_page(buf, expected, page, when);
}

struct reader {
	const struct live_capture *capture;
	struct memory_source *image;
	const char *expected;
	atomic_bool stop;
	unsigned int bad, reads;
};

static void read_at(struct reader *r, uint64_t at)
{
	char buf[3 * PAGE_BYTES];

	if (at > SIZE - sizeof buf)
		at = SIZE - sizeof buf;
	r->bad += memory_source_read(r->image, buf, sizeof buf, at) != 0 || memcmp(buf, r->expected + at, sizeof buf) != 0;
	r->reads++;
}

/* Backwards, and about where the capture is just now. */
static void *read_all_the_while(void *data)
{
	struct reader *r = data;

	while (!atomic_load(&r->stop))
		for (uint64_t at = SIZE; at >= 3 * PAGE && !atomic_load(&r->stop); at -= 2 * PAGE + 100) {
			struct live_capture_progress p;

			read_at(r, at);
			live_capture_progress(r->capture, &p);
			read_at(r, p.total ? p.copied / PAGE * PAGES / (p.total / PAGE) * PAGE + at % PAGE : 0);
		}
	return NULL;
}

/* The file has the pages, and of a delta the process's own alone. */
static void compare_file(const struct vm *vm, int file, struct memory_source *image, const char *expected)
{
	static char buf[SIZE];
	uint64_t own = 0, own_bytes;
	struct extent x = { 0, 0 };
	struct stat st;

	cr_assert_eq(pread(file, buf, SIZE, 0), (ssize_t)SIZE);
	cr_assert_eq(fstat(file, &st), 0);
	cr_assert_eq(st.st_size, SIZE);
	if (vm->kind != DELTA) {
		for (uint64_t page = 0; page < PAGES; page++)
			assert_page(buf, expected, page, "in the file");
		return;
	}
	for (own_bytes = 0; memory_source_own(image, x.end, &x) > 0; own_bytes += x.end - x.start)
		for (uint64_t page = x.start / PAGE; page < x.end / PAGE; page++, own++) {
			cr_assert_neq(page % 4, 0, "page %lu was never written to", page);
			assert_page(buf, expected, page, "in the delta");
		}
	cr_assert_gt(own, 0);
	cr_assert_leq((uint64_t)st.st_blocks * 512, own_bytes, "the delta has more than the process's own pages");
	for (uint64_t page = 0; page < PAGES; page++) {
		const uint64_t *words = (const void *)(expected + page * PAGE);

		if (words[0] != pattern(page) || words[WORDS - 1] != pattern(page))
			cr_assert(memory_source_own(image, page * PAGE, &x) > 0 && x.start == page * PAGE, "page %lu is missing", page);
	}
}

bool capture(const struct vm *vm, int round)
{
	static char expected[SIZE];
	AUTO_CLOSE int file = memfd_create("capture", MFD_CLOEXEC);
	struct live_capture_progress progress;
	struct outcome outcome = { 0 };
	struct reader reader = { .expected = expected };
	struct live_capture *c;
	struct failure why;
	pthread_t thread;
	bool early;

	cr_assert_eq(arm(&c, vm, file, &outcome, &why), 0, "%s", why.text);
	await_writes(vm, 20 + 20 * (uint64_t)(round % 3));
	atomic_store(&vm->control->limit, 100u + 120u * (unsigned int)round);
	stop_child(vm);
	look(vm, expected);
	cr_assert_eq(live_capture_stop(c), 0);
	atomic_store(&vm->control->limit, 200u + 300u * (unsigned int)round);
	if (round % 2) {
		continue_child(vm);
		await_writes(vm, 100);
	}
	cr_assert_eq(live_capture_run(c), 0);
	continue_child(vm);
	reader.capture = c;
	reader.image = live_capture_source(c);
	cr_assert_eq(pthread_create(&thread, NULL, read_all_the_while, &reader), 0);
	live_capture_progress(c, &progress);
	early = progress.copied < progress.total;
	compare(reader.image, expected, 5 * PAGE + 17, "during the capture");
	cr_assert_eq(await_done(&outcome), 0, "%s", outcome.text);
	atomic_store(&reader.stop, true);
	pthread_join(thread, NULL);
	cr_assert_eq(reader.bad, 0, "%u of %u reads beside it", reader.bad, reader.reads);
	live_capture_progress(c, &progress);
	cr_assert_eq(progress.copied, progress.total);
	await_writes(vm, 100);
	compare(reader.image, expected, SIZE, "afterwards");
	live_capture_destroy(c);
	await_writes(vm, 100);
	compare(reader.image, expected, 64 * PAGE, "when the capture was gone");
	compare_file(vm, file, reader.image, expected);
	memory_source_unref(reader.image);
	cr_assert_eq(atomic_load(&outcome.calls), 1);
	return early;
}
