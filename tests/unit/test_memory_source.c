/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "vmm/memory/memory_source.h"
#include "vmm/memory/overlay.h"

#define PAGE ((uint64_t)PAGE_BYTES)
#define PAGES 64
#define SIZE (PAGES * PAGE)

static struct failure why;

/* Data in pages 0, 1, 5 and 63. */
static int make_file(void)
{
	static const uint64_t data[] = { 0, 1, 5, 63 };
	int fd = memfd_create("memory.bin", MFD_CLOEXEC);

	cr_assert_eq(ftruncate(fd, SIZE), 0);
	for (size_t i = 0; i < ARRAY_LEN(data); i++)
		cr_assert_eq(pwrite(fd, &(char){ (char)('a' + data[i]) }, 1, (off_t)(data[i] * PAGE + 9)), 1);
	return fd;
}

static struct memory_source *make_source(int fd, uint64_t size, const struct extents *data)
{
	struct memory_source *s;

	cr_assert_eq(memory_source_create_file(&s, fd, size, data, &why), 0, "%s", why.text);
	return s;
}

static uint64_t bytes_of(int fd)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* The clock that files are stamped by may stand still for some milliseconds. */
static void write_later(int fd, const void *bytes, size_t n, uint64_t offset)
{
	struct stat before, now;

	cr_assert_eq(fstat(fd, &before), 0);
	for (time_t end = time(NULL) + 10; time(NULL) < end;) {
		cr_assert_eq(pwrite(fd, bytes, n, (off_t)offset), (ssize_t)n);
		cr_assert_eq(fstat(fd, &now), 0);
		if (now.st_mtim.tv_sec != before.st_mtim.tv_sec || now.st_mtim.tv_nsec != before.st_mtim.tv_nsec)
			return;
	}
	cr_assert_fail("the file's time stands still");
}

Test(memory_source, file_with_holes)
{
	AUTO_CLOSE int fd = make_file();
	AUTO_EXTENTS struct extents e = { 0 };
	static char expected[SIZE], buf[SIZE + PAGE];
	struct memory_source *s = make_source(fd, SIZE, NULL);
	struct extent own;
	uint64_t end;

	cr_assert_eq(pread(fd, expected, SIZE, 0), (ssize_t)SIZE);
	cr_assert_eq(s->size, SIZE);
	memset(buf, 'x', sizeof buf);
	cr_assert_eq(memory_source_read(s, buf, sizeof buf, 0), 0);
	cr_assert_eq(memcmp(buf, expected, SIZE), 0);
	cr_assert(buf[SIZE] == 0 && buf[SIZE + PAGE - 1] == 0, "what lies behind the end is zeros");
	memset(buf, 'x', PAGE);
	cr_assert_eq(memory_source_read(s, buf, PAGE, SIZE + 5 * PAGE), 0);
	cr_assert_eq(buf[7], 0);
	cr_assert_eq(memory_source_read(s, buf, 2, 5 * PAGE + 9), 0);
	cr_assert_eq(buf[0], 'f');
	cr_assert_eq(memory_source_data(s, PAGE + 3, &end), 1);
	cr_assert_eq(end, 2 * PAGE);
	cr_assert_eq(memory_source_data(s, 2 * PAGE, &end), 0);
	cr_assert_eq(end, 5 * PAGE);
	cr_assert_eq(memory_source_data(s, 63 * PAGE, &end), 1);
	cr_assert_geq(end, SIZE);
	cr_assert_eq(memory_source_data(s, SIZE, &end), 0);
	cr_assert_eq(end, UINT64_MAX);
	cr_assert_eq(memory_source_extents(s, &e), 0);
	cr_assert_eq(e.count, 3);
	cr_assert_eq(extents_bytes(&e), 4 * PAGE);
	cr_assert_eq(memory_source_own(s, 7 * PAGE, &own), 1);
	cr_assert(own.start == 7 * PAGE && own.end == SIZE);
	cr_assert_eq(memory_source_own(s, SIZE, &own), 0);
	cr_assert_eq(bytes_of(fd), 4 * PAGE, "reading made pages of holes");
	memory_source_unref(s);
	memory_source_unref(NULL);
}

Test(memory_source, keeps_a_duplicate_as_long_as_somebody_refers_to_it)
{
	int fd = make_file(), next;
	struct memory_source *s = make_source(fd, SIZE, NULL);
	char c;

	close(fd);
	cr_assert_eq(memory_source_ref(s), s);
	memory_source_unref(s);
	cr_assert_eq(memory_source_read(s, &c, 1, 9), 0);
	cr_assert_eq(c, 'a');
	memory_source_unref(s);
	next = dup(0);
	cr_assert_eq(next, fd);
	cr_assert_eq(fcntl(fd + 1, F_GETFD), -1, "its descriptor was left open");
	close(next);
}

Test(memory_source, extents_that_are_known)
{
	AUTO_CLOSE int fd = make_file();
	AUTO_EXTENTS struct extents known = { 0 }, e = { 0 };
	struct memory_source *s;
	uint64_t end;

	cr_assert_eq(extents_add(&known, 5 * PAGE, 6 * PAGE), 0);
	s = make_source(fd, SIZE, &known);
	extents_finish(&known);
	cr_assert_eq(memory_source_data(s, 0, &end), 0);
	cr_assert_eq(end, 5 * PAGE);
	cr_assert_eq(memory_source_extents(s, &e), 0);
	cr_assert_eq(extents_bytes(&e), PAGE);
	memory_source_unref(s);
}

Test(memory_source, short_file)
{
	AUTO_CLOSE int fd = make_file();
	struct memory_source *s = NULL;

	cr_assert_eq(memory_source_create_file(&s, fd, SIZE + 1, NULL, &why), -EIO);
	cr_assert(strstr(why.text, "truncated: it has 262144 of 262145 bytes"), "%s", why.text);
	cr_assert_eq(why.code, EIO);
	cr_assert_eq(memory_source_create_file(&s, -1, SIZE, NULL, &why), -EBADF);
	cr_assert_eq(memory_source_create_file(&s, -1, SIZE, NULL, NULL), -EBADF);
	cr_assert_eq(s, NULL);
}

/* Also where the read itself lies before the cut: the tail that was cut off has become zeros to others. */
Test(memory_source, cut_off_later)
{
	AUTO_CLOSE int fd = make_file();
	struct memory_source *s = make_source(fd, SIZE, NULL);
	char buf[16];

	cr_assert_eq(ftruncate(fd, 32 * PAGE), 0);
	cr_assert_eq(memory_source_read(s, buf, sizeof buf, 63 * PAGE), -EIO);
	cr_assert_eq(memory_source_read(s, buf, sizeof buf, 0), -EIO);
	cr_assert_eq(memory_source_explain(s, -EIO, 63 * PAGE, &why), -EIO);
	cr_assert(strstr(why.text, "truncated: it has 131072 of 262144 bytes"), "%s", why.text);
	cr_assert_eq(memory_source_explain(s, -EIO, 0, NULL), -EIO);
	cr_assert_eq(ftruncate(fd, SIZE), 0);
	write_later(fd, "", 1, 0);
	cr_assert_eq(memory_source_read(s, buf, sizeof buf, 63 * PAGE), -EIO, "grown again, with zeros");
	memory_source_unref(s);
}

Test(memory_source, written_to_later)
{
	AUTO_CLOSE int fd = make_file();
	struct memory_source *s = make_source(fd, SIZE, NULL);
	char buf[16];

	cr_assert_eq(memory_source_read(s, buf, sizeof buf, 0), 0);
	write_later(fd, "new", 3, 40 * PAGE);
	cr_assert_eq(memory_source_read(s, buf, sizeof buf, 0), -EIO);
	cr_assert_eq(memory_source_explain(s, -EIO, 0, &why), -EIO);
	cr_assert(strstr(why.text, "written to"), "%s", why.text);
	cr_assert_eq(memory_source_explain(s, -ENOMEM, 0x3000, &why), -ENOMEM);
	cr_assert(strstr(why.text, "0x3000"), "%s", why.text);
	cr_assert_eq(why.code, ENOMEM);
	memory_source_unref(s);
}

/* Every page begins with its own letter; the file over it has pages 2, 3 and 10. */
Test(memory_source, read_over)
{
	AUTO_CLOSE int under = memfd_create("under", MFD_CLOEXEC), over = memfd_create("over", MFD_CLOEXEC);
	static char expected[SIZE], buf[SIZE];
	struct memory_source *s;
	uint64_t before;

	for (uint64_t i = 0; i < PAGES; i++)
		memset(expected + i * PAGE, (char)('0' + i), PAGE);
	cr_assert_eq(pwrite(under, expected, SIZE, 0), (ssize_t)SIZE);
	s = make_source(under, SIZE, NULL);
	memset(expected + 2 * PAGE, '!', 2 * PAGE);
	memset(expected + 10 * PAGE, 0, PAGE);
	cr_assert_eq(ftruncate(over, SIZE), 0);
	cr_assert_eq(pwrite(over, expected + 2 * PAGE, 2 * PAGE, 2 * PAGE), 2 * (ssize_t)PAGE);
	cr_assert_eq(pwrite(over, expected + 10 * PAGE, PAGE, 10 * PAGE), (ssize_t)PAGE, "zeros that hide what is under them");
	before = bytes_of(over);
	for (uint64_t at = 0; at < 12 * PAGE; at += 1777)
		for (uint64_t n = 1; n < 13 * PAGE; n += 3333) {
			memset(buf, 'x', n);
			cr_assert_eq(memory_source_read_over(s, over, buf, n, at), 0);
			cr_assert_eq(memcmp(buf, expected + at, n), 0, "%lu bytes at %lu", n, at);
		}
	cr_assert_eq(memory_source_read_over(s, over, buf, SIZE, 0), 0);
	cr_assert_eq(memcmp(buf, expected, SIZE), 0);
	cr_assert_eq(memory_source_read_over(NULL, over, buf, PAGE, 0), 0);
	cr_assert_eq(buf[0], 0);
	cr_assert_eq(bytes_of(over), before, "reading made pages of holes");
	cr_assert_eq(ftruncate(under, 4 * PAGE), 0);
	cr_assert_eq(memory_source_read_over(s, over, buf, SIZE, 0), -EIO);
	memory_source_unref(s);
}

/* A file of own pages 0, 1, 5 and 63, of which 5 is zeros, over a memory with data in 4 and 5 only. */
Test(memory_source, overlay)
{
	AUTO_CLOSE int own = make_file(), fd = memfd_create("under", MFD_CLOEXEC);
	static char expected[SIZE], buf[SIZE];
	struct memory_source *under, *s;
	struct extent run = { 0, 0 };
	const struct extent runs[] = { { 0, 2 * PAGE }, { 5 * PAGE, 6 * PAGE }, { 63 * PAGE, SIZE } };
	uint64_t end;

	cr_assert_eq(ftruncate(fd, SIZE), 0);
	memset(expected + 4 * PAGE, 'u', 2 * PAGE);
	cr_assert_eq(pwrite(fd, expected, SIZE / 2, 0), (ssize_t)SIZE / 2);
	under = make_source(fd, SIZE, NULL);
	memset(buf, 0, PAGE);
	cr_assert_eq(pwrite(own, buf, PAGE, 5 * PAGE), (ssize_t)PAGE);
	cr_assert_eq(overlay_create(&s, own, under, &why), 0, "%s", why.text);
	memory_source_unref(under);

	memset(expected + 5 * PAGE, 0, PAGE);
	expected[9] = 'a';
	expected[PAGE + 9] = 'b';
	expected[63 * PAGE + 9] = (char)('a' + 63);
	cr_assert_eq(memory_source_read(s, buf, SIZE, 0), 0);
	cr_assert(!memcmp(buf, expected, SIZE));
	cr_assert_eq(memory_source_read(s, buf, PAGE, 5 * PAGE - 1), 0);
	cr_assert(buf[0] == 'u' && !buf[1]);
	for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
		cr_assert_eq(memory_source_own(s, run.end, &run), 1);
		cr_assert_eq(run.start, runs[i].start);
		cr_assert_eq(run.end, runs[i].end);
	}
	cr_assert_eq(memory_source_own(s, run.end, &run), 0);
	cr_assert_eq(memory_source_data(s, 40 * PAGE, &end), 0);
	cr_assert_eq(end, 63 * PAGE);
	cr_assert_eq(memory_source_data(s, 5 * PAGE, &end), 1);
	memory_source_unref(s);
}
