/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "vmm/memory/copy.h"
#include "vmm/memory/memory_source.h"
#include "vmm/memory/extents.h"

#define PAGE ((uint64_t)PAGE_BYTES)

static struct failure why;

static int make_memfd(uint64_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	cr_assert_eq(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static void put(int fd, uint64_t page, uint64_t at, char c)
{
	cr_assert_eq(pwrite(fd, &c, 1, (off_t)(page * PAGE + at)), 1);
}

static uint64_t bytes_of(int fd)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void assert_same(int a, int b, uint64_t size)
{
	static char x[64 << 10], y[64 << 10];

	for (uint64_t at = 0; at < size; at += sizeof x) {
		size_t n = size - at < sizeof x ? size - at : sizeof x;

		cr_assert_eq(pread(a, x, n, (off_t)at), (ssize_t)n);
		cr_assert_eq(pread(b, y, n, (off_t)at), (ssize_t)n);
		cr_assert_eq(memcmp(x, y, n), 0, "they differ behind %#lx", at);
	}
}

/* From the first bytes of a file. */
static int fill(int to, int from, uint64_t size, const atomic_bool *cancelled, struct copy_stats *stats, struct failure *ret_why)
{
	struct memory_source *source;
	int r = memory_source_create_file(&source, from, size, NULL, ret_why);

	if (r < 0)
		return r;
	r = memory_fill(to, source, cancelled, stats, ret_why);
	memory_source_unref(source);
	return r;
}

/* Data in all places that matter: the borders of a page, of a chunk, of the file; a page with only its last byte set; data that is zero. */
Test(copy, fill)
{
	uint64_t size = 4096 * PAGE;
	AUTO_CLOSE int from = make_memfd(size), to = make_memfd(size);
	struct copy_stats stats;
	static char zeros[100 * PAGE_BYTES];

	put(from, 0, 0, 'a');
	put(from, 7, PAGE - 1, 'b');
	put(from, 8, 64, 'c');
	put(from, 63, 1, 'd');
	put(from, 64, 1, 'e');
	put(from, 4095, PAGE - 1, 'f');
	cr_assert_eq(pwrite(from, zeros, sizeof zeros, 1000 * PAGE), (ssize_t)sizeof zeros);
	put(from, 1050, 63, 'g');
	cr_assert_eq(fill(to, from, size, NULL, &stats, &why), 0, "%s", why.text);
	assert_same(from, to, size);
	cr_assert_eq(stats.copied, 7 * PAGE);
	cr_assert_eq(stats.zeros, 99 * PAGE);
	cr_assert_eq(bytes_of(to), 7 * PAGE, "pages of zeros were filled");
}

/* Enough of it for two threads, with holes, zeros, and a page in the target that is no hole. */
Test(copy, fill_of_much)
{
	uint64_t pages = 16384, size = pages * PAGE;
	AUTO_CLOSE int from = make_memfd(size), to = make_memfd(size);
	struct copy_stats stats;

	for (uint64_t i = 0; i < pages; i++)
		if (i % 5)
			put(from, i, i % PAGE, i % 5 == 1 ? '\0' : (char)('a' + i % 7));
	put(to, 4002, 0, '!');
	cr_assert_eq(fill(to, from, size, NULL, &stats, &why), 0, "%s", why.text);
	assert_same(from, to, size);
	cr_assert_eq(stats.copied + stats.zeros, (pages - pages / 5 - 1) * PAGE);
	cr_assert_eq(bytes_of(to), stats.copied);
}

Test(copy, much_is_cancelled)
{
	AUTO_CLOSE int from = make_memfd(64 << 20), to = make_memfd(64 << 20);
	atomic_bool cancelled = true;
	static char piece[32 << 20];

	memset(piece, 'x', sizeof piece);
	cr_assert_eq(pwrite(from, piece, sizeof piece, 0), (ssize_t)sizeof piece);
	cr_assert_eq(fill(to, from, 64 << 20, &cancelled, NULL, &why), -ECANCELED);
	cr_assert_eq(why.code, ECANCELED);
	cr_assert_eq(bytes_of(to), 0);
}

/* What cannot be written by a mapping is written by pwrite: a target that is open for writing only. */
Test(copy, fill_without_a_window)
{
	AUTO_CLOSE int from = make_memfd(64 << 20), to = make_memfd(64 << 20), write_only = -1;
	static char piece[32 << 20];
	char path[64];

	memset(piece, 'x', sizeof piece);
	cr_assert_eq(pwrite(from, piece, sizeof piece, 1 << 20), (ssize_t)sizeof piece);
	snprintf(path, sizeof path, "/proc/self/fd/%d", to);
	write_only = open(path, O_WRONLY | O_CLOEXEC);
	cr_assert_eq(fill(write_only, from, 64 << 20, NULL, NULL, &why), 0, "%s", why.text);
	assert_same(from, to, 64 << 20);
	cr_assert_eq(bytes_of(to), sizeof piece);
}

Test(copy, fill_takes_only_the_first_bytes)
{
	AUTO_CLOSE int from = make_memfd(8 * PAGE), to = make_memfd(4 * PAGE);

	put(from, 3, 0, 'a');
	put(from, 4, 0, 'b');
	cr_assert_eq(fill(to, from, 4 * PAGE, NULL, NULL, &why), 0, "%s", why.text);
	assert_same(to, from, 4 * PAGE);
	cr_assert_eq(bytes_of(to), PAGE);
}

Test(copy, fill_of_an_odd_size)
{
	AUTO_CLOSE int from = make_memfd(PAGE + 100), to = make_memfd(PAGE + 100);

	put(from, 1, 99, 'z');
	cr_assert_eq(fill(to, from, PAGE + 100, NULL, NULL, &why), 0, "%s", why.text);
	assert_same(to, from, PAGE + 100);
}

Test(copy, fill_from_a_short_file)
{
	AUTO_CLOSE int from = make_memfd(7 * PAGE), to = make_memfd(8 * PAGE);
	struct copy_stats stats = { 7, 7 };

	cr_assert_eq(fill(to, from, 8 * PAGE, NULL, &stats, &why), -EIO);
	cr_assert(strstr(why.text, "truncated"), "%s", why.text);
	cr_assert_eq(stats.copied, 7);
}

Test(copy, fill_fails_where_the_target_does)
{
	AUTO_CLOSE int from = make_memfd(PAGE), to = open("/dev/full", O_WRONLY | O_CLOEXEC);

	put(from, 0, 0, 'a');
	cr_assert_eq(fill(to, from, PAGE, NULL, NULL, &why), -ENOSPC);
	cr_assert_eq(fill(-1, from, PAGE, NULL, NULL, &why), -EBADF);
	cr_assert_eq(fill(-1, from, PAGE, NULL, NULL, NULL), -EBADF);
}

Test(copy, cancelled)
{
	AUTO_CLOSE int from = make_memfd(PAGE), to = make_memfd(PAGE);
	atomic_bool cancelled = true;

	put(from, 0, 0, 'a');
	cr_assert_eq(fill(to, from, PAGE, &cancelled, NULL, &why), -ECANCELED);
	cr_assert_eq(bytes_of(to), 0);
	atomic_store(&cancelled, false);
	cr_assert_eq(fill(to, from, PAGE, &cancelled, NULL, &why), 0);
}

static void *shrink(void *data)
{
	int fd = *(int *)data;

	for (off_t size = 64 << 20; size >= 0; size -= 1 << 20)
		if (ftruncate(fd, size))
			break;
	return NULL;
}

/* It succeeds only when the copy was through before the first cut; a signal would end the test. */
Test(copy, fill_from_a_file_that_shrinks)
{
	static char piece[1 << 20];
	int ended = 0;

	memset(piece, 'x', sizeof piece);
	for (int round = 0; round < 8; round++) {
		AUTO_CLOSE int from = make_memfd(64 << 20), to = make_memfd(64 << 20);
		pthread_t thread;
		int r;

		for (off_t at = 0; at < 64 << 20; at += sizeof piece)
			cr_assert_eq(pwrite(from, piece, sizeof piece, at), (ssize_t)sizeof piece);
		cr_assert_eq(pthread_create(&thread, NULL, shrink, &from), 0);
		r = fill(to, from, 64 << 20, NULL, NULL, &why);
		pthread_join(thread, NULL);
		cr_assert(r == -EIO || r == 0, "%d: %s", r, why.text);
		ended += r == -EIO;
	}
	cr_assert_gt(ended, 0);
}

struct cut {
	int from, to;
};

/* Cuts the hole at the end off once the copy has begun: no read falls short of it. */
static void *cut_hole(void *data)
{
	const struct cut *cut = data;

	while (bytes_of(cut->to) == 0)
		;
	cr_assert_eq(ftruncate(cut->from, 48 << 20), 0);
	return NULL;
}

Test(copy, fill_from_a_file_that_loses_a_hole)
{
	static char piece[48 << 20];
	int ended = 0;

	memset(piece, 'x', sizeof piece);
	for (int round = 0; round < 8 && !ended; round++) {
		AUTO_CLOSE int from = make_memfd(64 << 20), to = make_memfd(64 << 20);
		struct cut cut = { from, to };
		pthread_t thread;
		int r;

		cr_assert_eq(pwrite(from, piece, sizeof piece, 0), (ssize_t)sizeof piece);
		cr_assert_eq(pthread_create(&thread, NULL, cut_hole, &cut), 0);
		r = fill(to, from, 64 << 20, NULL, NULL, &why);
		pthread_join(thread, NULL);
		cr_assert(r == -EIO || r == 0, "%d: %s", r, why.text);
		ended += r == -EIO;
	}
	cr_assert_gt(ended, 0);
}

Test(copy, save_of_shared_memory)
{
	AUTO_CLOSE int to = make_memfd(0);
	struct copy_stats stats;
	struct region_view v;
	struct region r;

	cr_assert_eq(region_create_shared(&r, "x", 256 * PAGE, &why), 0);
	cr_assert_eq(region_view_open(&v, &r, 0, &why), 0);
	put(r.fd, 9, 9, 'x');
	put(r.fd, 10, 10, '\0');
	cr_assert_eq(memory_save(to, &v, NULL, &stats, &why), 0, "%s", why.text);
	assert_same(r.fd, to, r.size);
	cr_assert_eq(lseek(to, 0, SEEK_END), 256 * (off_t)PAGE);
	cr_assert_eq(bytes_of(to), PAGE);
	cr_assert_eq(stats.copied, PAGE);
	cr_assert_eq(stats.zeros, PAGE);
	region_view_finish(&v);
	region_finish(&r);
}

Test(copy, save_of_private_memory)
{
	AUTO_CLOSE int from = make_memfd(256 * PAGE), to = make_memfd(0);
	struct region_view v;
	struct region r;
	uint64_t before;
	char *ram, c;

	put(from, 1, 0, 'f');
	put(from, 2, 0, 'f');
	ram = mmap(NULL, 256 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, from, 0);
	ram[2 * PAGE] = 'p';
	ram[200 * PAGE] = 'q';
	before = bytes_of(from);
	cr_assert_eq(region_create_file(&r, from, 256 * PAGE, &why), 0);
	cr_assert_eq(region_view_open(&v, &r, getpid(), &why), 0, "%s", why.text);
	cr_assert_eq(memory_save(to, &v, NULL, NULL, &why), 0, "%s", why.text);
	cr_assert_eq(bytes_of(to), 3 * PAGE);
	cr_assert_eq(bytes_of(from), before, "saving made pages of holes");
	cr_assert_eq(pread(to, &c, 1, 200 * PAGE), 1);
	cr_assert_eq(c, 'q');
	for (uint64_t page = 0; page < 256; page++) {
		static char buf[PAGE_BYTES];

		cr_assert_eq(pread(to, buf, PAGE, (off_t)(page * PAGE)), (ssize_t)PAGE);
		cr_assert_eq(memcmp(buf, ram + page * PAGE, PAGE), 0, "page %lu", page);
	}
	region_view_finish(&v);
	region_finish(&r);
}
