/* SPDX-License-Identifier: Apache-2.0
 *
 * A private page is read from the process, every other one from the file: reading that through the process would fault it in there, and make a page
 * of a hole in a file on tmpfs. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/uio.h>

#include "vmm/memory/mapping.h"
#include "vmm/memory/memory_source.h"
#include "vmm/memory/pagemap.h"
#include "vmm/memory/region.h"
#include "vmm/memory/whole.h"

static int open_of(pid_t pid, const char *name, int flags, struct failure *why)
{
	char path[32];
	int fd;

	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
	fd = open(path, flags | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	if (errno == ENOENT || errno == ESRCH)
		return fail(why, ESRCH, "process %d is gone", (int)pid);
	return fail_errno(why, errno, "%s", path);
}

int region_view_open(struct region_view *ret, const struct region *r, pid_t pid, struct failure *why)
{
	struct region_view v = { .region = r, .mem = -1, .pagemap = -1 };
	AUTO_CLOSE int mem = -1, pagemap = -1;
	int e;

	if (r->kind == REGION_FILE && pid) {
		e = mapping_find(&v.base, pid, r->fd, r->size, why);
		if (e < 0)
			return e;
		mem = open_of(pid, "mem", O_RDWR, why);
		if (mem < 0)
			return mem;
		pagemap = open_of(pid, "pagemap", O_RDONLY, why);
		if (pagemap < 0)
			return pagemap;
		v.mem = steal_fd(&mem);
		v.pagemap = steal_fd(&pagemap);
		v.writer = pid;
	}
	*ret = v;
	return 0;
}

int region_view_watch(struct region_view *v, pid_t pid, struct failure *why)
{
	int fd = v->pagemap >= 0 ? 0 : open_of(pid, "pagemap", O_RDONLY, why);

	if (fd < 0)
		return fd;
	if (v->pagemap < 0)
		v->pagemap = fd;
	return 0;
}

void region_view_finish(struct region_view *v)
{
	close_fd(&v->mem);
	close_fd(&v->pagemap);
	v->region = NULL;
}

static int read_process(const struct region_view *v, void *buf, size_t n, uint64_t offset)
{
	int r = read_whole(v->mem, buf, n, v->base + offset);

	/* The kernel gives 0 bytes of a process without an address space. */
	return r == -EIO && pread(v->mem, &(char){ 0 }, 1, (off_t)v->base) == 0 ? -ESRCH : r;
}

/* The walk is of whole pages: a run's part within [offset, end). */
static struct extent cut(const struct region_view *v, struct extent run, uint64_t offset, uint64_t end)
{
	run.start -= v->base;
	run.end -= v->base;
	if (run.start < offset)
		run.start = offset;
	if (run.end > end)
		run.end = end;
	return run;
}

static void walk_init(struct pagemap_walk *w, const struct region_view *v, uint64_t offset, uint64_t end, enum pagemap_wanted wanted)
{
	pagemap_walk_init(w, v->pagemap, v->base + offset / PAGE_BYTES * PAGE_BYTES, v->base + end + -end % PAGE_BYTES, wanted);
}

static int read_mixed(const struct region_view *v, char *buf, uint64_t offset, uint64_t end)
{
	struct pagemap_walk walk;
	struct extent run;
	uint64_t at = offset;
	int more;

	walk_init(&walk, v, offset, end, PAGEMAP_OWN);
	while (at < end) {
		int r = 0;

		more = pagemap_walk_next(&walk, &run);
		if (more < 0)
			return more;
		run = more ? cut(v, run, offset, end) : (struct extent){ end, end };
		if (at < run.start)
			r = read_whole(v->region->fd, buf + (at - offset), run.start - at, at);
		if (r == 0 && run.start < run.end)
			r = read_process(v, buf + (run.start - offset), run.end - run.start, run.start);
		if (r < 0)
			return r;
		at = run.end;
	}
	return 0;
}

ssize_t region_view_read(const struct region_view *v, void *buf, size_t n, uint64_t offset)
{
	uint64_t size = v->region->size;
	int r;

	if (offset >= size)
		return 0;
	if (n > size - offset)
		n = size - offset;
	if (v->mem < 0)
		r = memory_source_read_over(v->region->kind == REGION_SHARED ? v->under : NULL, v->region->fd, buf, n, offset);
	else
		r = read_mixed(v, buf, offset, offset + n);
	return r < 0 ? r : (ssize_t)n;
}

/* Not by /proc/PID/mem: that can't wait for a page, or for the right to write to it. */
static ssize_t write_process(const struct region_view *v, const void *buf, size_t n, uint64_t offset)
{
	struct iovec from = { (void *)(uintptr_t)buf, n }, to = { (void *)(uintptr_t)(v->base + offset), n };
	ssize_t k = process_vm_writev(v->writer, &from, 1, &to, 1, 0);

	if (k < 0)
		return errno == EFAULT ? -ESRCH : -errno;
	return k;
}

ssize_t region_view_write(const struct region_view *v, const void *buf, size_t n, uint64_t offset)
{
	uint64_t size = v->region->size;
	ssize_t k;

	if (!n)
		return 0;
	if (offset >= size)
		return -EFBIG;
	if (n > size - offset)
		n = size - offset;
	if (v->writer)
		return write_process(v, buf, n, offset);
	if (v->region->kind == REGION_FILE)
		return -EROFS;
	k = pwrite(v->region->fd, buf, n, (off_t)offset);
	return k < 0 ? -errno : k;
}

static int find(const struct region_view *v, enum pagemap_wanted wanted, struct extents *ret)
{
	struct pagemap_walk walk;
	struct extent run;
	int r;

	walk_init(&walk, v, 0, v->region->size, wanted);
	while ((r = pagemap_walk_next(&walk, &run)) > 0) {
		r = extents_add(ret, run.start - v->base, run.end - v->base);
		if (r < 0)
			break;
	}
	return r;
}

int region_view_own(const struct region_view *v, struct extents *ret)
{
	return v->mem < 0 ? 0 : find(v, v->guarded ? PAGEMAP_RESIDENT : PAGEMAP_OWN, ret);
}

int region_view_written(const struct region_view *v, struct extents *ret)
{
	return v->mem >= 0 || v->pagemap < 0 ? -ENOTTY : find(v, PAGEMAP_WRITTEN, ret);
}

int region_view_extents(const struct region_view *v, struct extents *ret)
{
	AUTO_EXTENTS struct extents file = { 0 }, over = { 0 };
	int r = extents_scan(&file, v->region->fd, v->region->size);

	if (r == 0 && v->mem >= 0)
		r = region_view_own(v, &over);
	else if (r == 0 && v->under)
		r = memory_source_extents(v->under, &over);
	return r < 0 ? r : extents_union(ret, &file, &over);
}

int64_t region_view_private(const struct region_view *v)
{
	AUTO_EXTENTS struct extents own = { 0 };
	int r = region_view_own(v, &own);

	return r < 0 ? r : (int64_t)extents_bytes(&own);
}
