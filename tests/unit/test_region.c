/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "vmm/memory/extents.h"
#include "vmm/memory/pagemap.h"
#include "vmm/memory/region.h"
#include "vmm/memory/written.h"

#define PAGE ((uint64_t)PAGE_BYTES)
#define PAGES 64
#define SIZE (PAGES * PAGE)

static struct failure why;

/* A memory file: page 0 begins with "file", page 40 with "tail", the rest is a hole. */
static int make_file(void)
{
	int fd = memfd_create("memory.bin", MFD_CLOEXEC);

	cr_assert_eq(ftruncate(fd, SIZE), 0);
	cr_assert_eq(pwrite(fd, "file", 4, 0), 4);
	cr_assert_eq(pwrite(fd, "tail", 4, 40 * PAGE), 4);
	return fd;
}

static uint64_t bytes_of(int fd)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* A VMM: maps the file and writes pages 2, 3 and 50; page 40 it only reads. Waits to be killed. */
static pid_t start_vmm(int fd)
{
	int ready[2];
	pid_t pid;
	char c;

	cr_assert_eq(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		char *ram = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

		ram[2 * PAGE] = 'x';
		memcpy(ram + 3 * PAGE - 2, "span", 4);
		ram[50 * PAGE + 5] = ram[40 * PAGE];
		/* Areas of other rights are areas of their own in maps. */
		mprotect(ram + 8 * PAGE, 4 * PAGE, PROT_READ);
		if (write(ready[1], "r", 1) == 1)
			pause();
		_exit(1);
	}
	cr_assert_eq(read(ready[0], &c, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void end_vmm(pid_t pid)
{
	kill(pid, SIGKILL);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
}

Test(region, shared)
{
	struct region r;
	char name[300], link[64], target[300] = "";
	int seals;

	memset(name, 'n', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	cr_assert_eq(region_create_shared(&r, name, SIZE, &why), 0, "%s", why.text);
	cr_assert_eq(r.kind, REGION_SHARED);
	cr_assert_eq(r.size, SIZE);
	snprintf(link, sizeof link, "/proc/self/fd/%d", r.fd);
	cr_assert_gt(readlink(link, target, sizeof target - 1), 0);
	cr_assert_eq(strncmp(target, "/memfd:forkfs:nnn", 17), 0, "%s", target);
	seals = fcntl(r.fd, F_GET_SEALS);
	cr_assert_eq(seals & (F_SEAL_GROW | F_SEAL_SHRINK), F_SEAL_GROW | F_SEAL_SHRINK);
	cr_assert_eq(seals & F_SEAL_WRITE, 0);
	cr_assert(fcntl(r.fd, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(region_bytes(&r), 0);
	cr_assert_eq(pwrite(r.fd, "x", 1, 5 * PAGE), 1);
	cr_assert_eq(region_bytes(&r), PAGE);
	region_finish(&r);
	region_finish(&r);
}

Test(region, failures_leave_it_alone)
{
	struct region r = { REGION_NONE, 7, -7 };
	AUTO_CLOSE int fd = make_file();

	cr_assert_eq(region_create_shared(&r, "x", 0, &why), -EINVAL);
	cr_assert_eq(region_create_shared(&r, "x", PAGE + 1, &why), -EINVAL);
	cr_assert_eq(region_create_file(&r, fd, SIZE + PAGE, &why), -EIO);
	cr_assert_eq(region_create_file(&r, -1, SIZE, &why), -EBADF);
	cr_assert_eq(r.size, 7);
	cr_assert_eq(r.fd, -7);
	cr_assert(*why.text);
	region_finish(&(struct region){ 0 });
	cr_assert_neq(fcntl(0, F_GETFD), -1, "a zeroed region has no descriptor 0");
}

Test(region, file_is_a_duplicate)
{
	AUTO_CLOSE int fd = make_file();
	struct region r;

	cr_assert_eq(region_create_file(&r, fd, SIZE, &why), 0);
	cr_assert_eq(r.kind, REGION_FILE);
	cr_assert_neq(r.fd, fd);
	cr_assert_eq(region_bytes(&r), 0);
	region_finish(&r);
	cr_assert_neq(fcntl(fd, F_GETFD), -1);
}

Test(view, shared)
{
	AUTO_EXTENTS struct extents e = { 0 };
	struct region_view v;
	struct region r;
	char buf[16];

	cr_assert_eq(region_create_shared(&r, "x", SIZE, &why), 0);
	cr_assert_eq(region_view_open(&v, &r, 0, &why), 0);
	cr_assert_eq(region_view_write(&v, "hello", 5, SIZE - 3), 3);
	cr_assert_eq(region_view_write(&v, "hello", 5, SIZE), -EFBIG);
	cr_assert_eq(region_view_write(&v, "hello", 5, UINT64_MAX), -EFBIG);
	cr_assert_eq(region_view_write(&v, "", 0, SIZE), 0);
	cr_assert_eq(region_view_read(&v, buf, sizeof buf, SIZE - 3), 3);
	cr_assert_eq(memcmp(buf, "hel", 3), 0);
	cr_assert_eq(region_view_read(&v, buf, sizeof buf, SIZE), 0);
	cr_assert_eq(region_view_read(&v, buf, sizeof buf, UINT64_MAX), 0);
	cr_assert_eq(region_view_read(&v, buf, sizeof buf, 0), sizeof buf);
	cr_assert_eq(region_view_extents(&v, &e), 0);
	cr_assert_eq(e.count, 1);
	cr_assert_eq(e.list[0].start, SIZE - PAGE);
	cr_assert_eq(region_view_private(&v), 0);
	region_view_finish(&v);
	region_finish(&r);
}

Test(view, file_that_nobody_maps)
{
	AUTO_CLOSE int fd = make_file();
	struct region_view v;
	struct region r;
	char buf[4];

	cr_assert_eq(region_create_file(&r, fd, SIZE, &why), 0);
	cr_assert_eq(region_view_open(&v, &r, 0, &why), 0);
	cr_assert_eq(region_view_read(&v, buf, sizeof buf, 40 * PAGE), 4);
	cr_assert_eq(memcmp(buf, "tail", 4), 0);
	cr_assert_eq(region_view_write(&v, "x", 1, 0), -EROFS);
	cr_assert_eq(region_view_private(&v), 0);
	region_view_finish(&v);
	region_finish(&r);
}

Test(view, private_mapping)
{
	AUTO_CLOSE int fd = make_file();
	AUTO_EXTENTS struct extents e = { 0 };
	static char all[SIZE];
	pid_t pid = start_vmm(fd);
	uint64_t before = bytes_of(fd);
	struct region_view v;
	struct region r;

	cr_assert_eq(region_create_file(&r, fd, SIZE, &why), 0);
	cr_assert_eq(region_view_open(&v, &r, pid, &why), 0, "%s", why.text);
	cr_assert_eq(region_view_private(&v), 3 * (int64_t)PAGE);
	cr_assert_eq(region_view_extents(&v, &e), 0);
	cr_assert_eq(e.count, 4);
	cr_assert_eq(e.list[1].start, 2 * PAGE);
	cr_assert_eq(e.list[1].end, 4 * PAGE);
	cr_assert_eq(e.list[3].start, 50 * PAGE);
	cr_assert_eq(region_view_read(&v, all, SIZE, 0), (ssize_t)SIZE);
	cr_assert_eq(memcmp(all, "file", 4), 0);
	cr_assert_eq(all[2 * PAGE], 'x');
	cr_assert_eq(memcmp(all + 3 * PAGE - 2, "span", 4), 0);
	cr_assert_eq(memcmp(all + 40 * PAGE, "tail", 4), 0);
	cr_assert_eq(all[50 * PAGE + 5], 't');
	cr_assert_eq(bytes_of(fd), before, "reading made pages of holes");
	cr_assert_eq(region_view_private(&v), 3 * (int64_t)PAGE, "reading copied pages");
	region_view_finish(&v);
	region_finish(&r);
	end_vmm(pid);
}

Test(view, reads_that_begin_and_end_within_pages)
{
	AUTO_CLOSE int fd = make_file();
	static char all[SIZE], part[SIZE];
	pid_t pid = start_vmm(fd);
	struct region_view v;
	struct region r;

	cr_assert_eq(region_create_file(&r, fd, SIZE, &why), 0);
	cr_assert_eq(region_view_open(&v, &r, pid, &why), 0, "%s", why.text);
	cr_assert_eq(region_view_read(&v, all, SIZE, 0), (ssize_t)SIZE);
	for (uint64_t at = 1; at < 5 * PAGE; at += 777)
		for (uint64_t n = 1; n < 3 * PAGE; n += 1111) {
			cr_assert_eq(region_view_read(&v, part, n, at), (ssize_t)n);
			cr_assert_eq(memcmp(part, all + at, n), 0, "%lu bytes at %lu", n, at);
		}
	region_view_finish(&v);
	region_finish(&r);
	end_vmm(pid);
}

Test(view, write_copies_the_page)
{
	AUTO_CLOSE int fd = make_file();
	pid_t pid = start_vmm(fd);
	struct region_view v;
	struct region r;
	char buf[4];

	cr_assert_eq(region_create_file(&r, fd, SIZE, &why), 0);
	cr_assert_eq(region_view_open(&v, &r, pid, &why), 0, "%s", why.text);
	cr_assert_eq(region_view_write(&v, "mine", 4, 40 * PAGE), 4);
	cr_assert_eq(region_view_read(&v, buf, 4, 40 * PAGE), 4);
	cr_assert_eq(memcmp(buf, "mine", 4), 0);
	cr_assert_eq(pread(fd, buf, 4, 40 * PAGE), 4);
	cr_assert_eq(memcmp(buf, "tail", 4), 0, "the file itself was written");
	cr_assert_eq(region_view_private(&v), 4 * (int64_t)PAGE);
	cr_assert_eq(region_view_write(&v, "mine", 4, SIZE - 2), 2);
	cr_assert_eq(region_view_write(&v, "mine", 4, SIZE), -EFBIG);
	region_view_finish(&v);
	region_finish(&r);
	end_vmm(pid);
}

Test(view, gone)
{
	AUTO_CLOSE int fd = make_file();
	pid_t pid = start_vmm(fd);
	struct region_view v = { .mem = -7 }, open;
	struct region r;
	char c;

	cr_assert_eq(region_create_file(&r, fd, SIZE, &why), 0);
	cr_assert_eq(region_view_open(&open, &r, pid, &why), 0);
	end_vmm(pid);
	cr_assert_eq(region_view_open(&v, &r, pid, &why), -ESRCH);
	cr_assert_eq(v.mem, -7);
	cr_assert_eq(region_view_private(&open), -ESRCH);
	cr_assert_eq(region_view_read(&open, &c, 1, 0), -ESRCH);
	cr_assert_eq(region_view_write(&open, "x", 1, 0), -ESRCH);
	region_view_finish(&open);
	region_finish(&r);
}

Test(view, mapped_otherwise)
{
	AUTO_CLOSE int fd = make_file(), other = make_file();
	struct region_view v;
	struct region r;
	char *ram;

	cr_assert_eq(region_create_file(&r, fd, SIZE, &why), 0);
	cr_assert_eq(region_view_open(&v, &r, getpid(), &why), -ESRCH);
	ram = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	cr_assert_eq(region_view_open(&v, &r, getpid(), &why), -ESRCH, "shared");
	munmap(ram, SIZE);
	ram = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, other, 0);
	cr_assert_eq(region_view_open(&v, &r, getpid(), &why), -ESRCH, "another file");
	munmap(ram, SIZE);
	ram = mmap(NULL, SIZE / 2, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	cr_assert_eq(region_view_open(&v, &r, getpid(), &why), -ESRCH, "half of it");
	cr_assert(strstr(why.text, "131072 of 262144 bytes"), "%s", why.text);
	munmap(ram, SIZE / 2);
	ram = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	cr_assert_eq(region_view_open(&v, &r, getpid(), &why), 0);
	region_view_finish(&v);
	cr_assert_eq(mmap(ram + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), ram + PAGE);
	cr_assert_eq(region_view_open(&v, &r, getpid(), &why), -ESRCH, "something lies over it");
	region_finish(&r);
}

/* Every third page of many: more runs than one call of the kernel gives. */
static uint64_t runs_of(int pagemap, const char *ram, uint64_t pages, bool by_entries, struct extents *ret)
{
	struct pagemap_walk w;
	struct extent x;
	int r;

	pagemap_walk_init(&w, pagemap, (uintptr_t)ram, (uintptr_t)ram + pages * PAGE, PAGEMAP_OWN);
	w.by_entries = by_entries;
	while ((r = pagemap_walk_next(&w, &x)) > 0)
		cr_assert_eq(extents_add(ret, x.start, x.end), 0);
	cr_assert_eq(r, 0);
	return extents_bytes(ret);
}

Test(view, both_ways_of_pagemap_agree)
{
	enum { MANY = 3000 };
	AUTO_CLOSE int fd = memfd_create("many", MFD_CLOEXEC), pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	AUTO_EXTENTS struct extents scanned = { 0 }, read = { 0 };
	volatile char *ram;

	cr_assert_eq(ftruncate(fd, MANY * PAGE), 0);
	ram = mmap(NULL, MANY * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	for (uint64_t i = 0; i < MANY; i++) {
		if (i % 3 == 0)
			ram[i * PAGE] = 1;
		else if (i % 3 == 1)
			(void)ram[i * PAGE];
	}
	cr_assert_eq(runs_of(pagemap, (const char *)(uintptr_t)ram, MANY, false, &scanned), 1000 * PAGE);
	cr_assert_eq(runs_of(pagemap, (const char *)(uintptr_t)ram, MANY, true, &read), 1000 * PAGE);
	cr_assert_eq(scanned.count, 1000);
	cr_assert_eq(read.count, 1000);
	cr_assert_eq(memcmp(scanned.list, read.list, 1000 * sizeof *read.list), 0);
}

/* Looks at this process itself. Returns how many pages were written, or a negative errno. */
static int64_t written_of(const struct region_view *v)
{
	AUTO_EXTENTS struct extents e = { 0 };
	int r = region_view_written(v, &e);

	return r < 0 ? r : (int64_t)(extents_bytes(&e) / PAGE);
}

Test(view, tells_what_was_written_as_long_as_that_is_noted)
{
	struct region r;
	struct region_view v;
	volatile char *ram;
	AUTO_CLOSE int uffd = uffd_open(-1, UFFD_FEATURES_WRITTEN);

	if (uffd < 0)
		cr_skip_test("no userfaultfd that notes writes: %s", strerror(-uffd));
	cr_assert_eq(region_create_shared(&r, "written", SIZE, &why), 0);
	cr_assert_eq(pwrite(r.fd, "data", 4, 9 * PAGE), 4);
	ram = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, r.fd, 0);
	ram[PAGE] = 'x';
	cr_assert_eq(region_view_open(&v, &r, getpid(), &why), 0);
	v.base = (uintptr_t)ram;
	cr_assert_eq(written_of(&v), -ENOTTY, "not watched");
	cr_assert_eq(region_view_watch(&v, getpid(), &why), 0);
	cr_assert_eq(written_of(&v), -EPERM, "nothing is noted");
	cr_assert_eq(written_begin(uffd, v.base, SIZE), 0);
	cr_assert_eq(written_of(&v), 0);
	cr_assert_eq(ram[9 * PAGE], 'd');
	cr_assert_eq(ram[20 * PAGE], 0, "a hole, read");
	cr_assert_eq(written_of(&v), 0, "reading isn't writing");
	ram[PAGE + 1] = 'y';
	ram[9 * PAGE] = 'd';
	ram[33 * PAGE] = 'z';
	cr_assert_eq(written_of(&v), 3);
	written_end(uffd, v.base, SIZE);
	cr_assert_eq(written_of(&v), -EPERM);
	cr_assert_eq(ram[33 * PAGE], 'z');
	region_view_finish(&v);
	munmap((void *)(uintptr_t)ram, SIZE);
	region_finish(&r);
}
