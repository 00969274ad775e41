/* SPDX-License-Identifier: Apache-2.0
 *
 * Files that are bytes at offsets: guest RAM and the members of a snapshot. Sparse, seekable; who has one open keeps what it is, whatever becomes of the
 * fork. Reads go to a worker, for they may wait for a disk. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/file.h"
#include "fs/files.h"
#include "vmm/memory/extents.h"
#include "vmm/memory/memory_source.h"
#include "vmm/snapshot.h"
#include "vmm/working_set.h"

#define CHUNK (1u << 20)

/* A read or write under way. The file isn't closed meanwhile: the kernel releases it after the answer. */
struct transfer {
	struct job job;
	struct file *file;
	fuse_req_t req;
	bool write;
	size_t size;
	off_t offset;
	ssize_t done;
	char data[];
};

static ssize_t read_whole(int fd, char *buf, size_t size, off_t offset)
{
	size_t got = 0;

	while (got < size) {
		ssize_t n = pread(fd, buf + got, size - got, offset + (off_t)got);

		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

static ssize_t read_source(struct memory_source *source, char *buf, size_t size, off_t offset)
{
	size_t n = (uint64_t)offset >= source->size ? 0 : size;
	int r;

	if (n > source->size - (uint64_t)offset)
		n = source->size - (uint64_t)offset;
	r = memory_source_read(source, buf, n, (uint64_t)offset);
	return r < 0 ? r : (ssize_t)n;
}

static void transfer_run(struct job *job)
{
	struct transfer *t = container_of(job, struct transfer, job);
	struct file *f = t->file;

	if (f->region.kind == REGION_NONE && f->source)
		t->done = read_source(f->source, t->data, t->size, t->offset);
	else if (f->region.kind == REGION_NONE)
		t->done = read_whole(f->fd, t->data, t->size, t->offset);
	else if (t->write)
		t->done = region_view_write(&f->view, t->data, t->size, (uint64_t)t->offset);
	else
		t->done = region_view_read(&f->view, t->data, t->size, (uint64_t)t->offset);
}

static void transfer_done(struct job *job)
{
	struct transfer *t = container_of(job, struct transfer, job);

	if (t->done < 0)
		fuse_reply_err(t->req, (int)-t->done);
	else if (t->write)
		fuse_reply_write(t->req, (size_t)t->done);
	else
		fuse_reply_buf(t->req, t->data, (size_t)t->done);
	free(t);
}

static void transfer(struct file *f, fuse_req_t req, const char *data, size_t size, off_t offset)
{
	size_t n = size < CHUNK ? size : CHUNK;
	struct transfer *t = malloc(sizeof *t + n);

	if (!t) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	*t = (struct transfer){ .file = f, .req = req, .write = data, .size = n, .offset = offset };
	t->job.run = transfer_run;
	t->job.done = transfer_done;
	if (data)
		memcpy(t->data, data, n);
	jobs_submit(f->fs->forks->jobs, &t->job);
}

static void bytes_read(struct file *f, fuse_req_t req, size_t size, off_t offset)
{
	if (f->fd < 0 && !f->source && f->region.kind == REGION_NONE)
		fuse_reply_buf(req, NULL, 0);
	else
		transfer(f, req, NULL, size, offset);
}

static void mem_stat(const struct node *n, struct stat *st)
{
	const struct region *r = &n->fork->ram;
	struct stat own;

	if (r->kind == REGION_NONE)
		return;
	st->st_size = (off_t)r->size;
	if (!fstat(r->fd, &own))
		st->st_blocks = own.st_blocks;
}

/* A description of its own, so that seeking in it disturbs nobody. */
static int reopen(int fd, int flags)
{
	char path[32];

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int mem_open(struct file *f)
{
	const struct fork *fork = f->node->fork;
	struct failure why;
	int r;

	if (fork->ram.kind == REGION_NONE || !fork->vm)
		return 0;
	r = reopen(fork->ram.fd, fork->ram.kind == REGION_SHARED ? O_RDWR : O_RDONLY);
	if (r < 0)
		return r;
	f->region = fork->ram;
	f->region.fd = r;
	r = region_view_open(&f->view, &f->region, fork->vm->process.pid, &why);
	if (r < 0) {
		region_finish(&f->region);
		return r;
	}
	if (fork->paging && paging_is_lazy(fork->paging))
		f->view.under = f->source = memory_source_ref(fork->origin->memory);
	f->view.guarded = fork->capture;
	if (fork->vm->memory.at) {
		f->view.base = fork->vm->memory.at;
		f->view.writer = fork->vm->process.pid;
	}
	return 0;
}

void mem_close(struct file *f)
{
	if (f->region.kind == REGION_NONE)
		return;
	region_view_finish(&f->view);
	region_finish(&f->region);
	memory_source_unref(f->source);
	f->source = NULL;
}

static void mem_write(struct file *f, fuse_req_t req, const char *data, size_t size, off_t offset)
{
	if (f->region.kind == REGION_NONE)
		fuse_reply_err(req, EBUSY);
	else
		transfer(f, req, data, size, offset);
}

static off_t seek_extents(const struct extents *e, uint64_t size, off_t offset, int whence)
{
	size_t i = extents_find(e, (uint64_t)offset);
	bool data = i < e->count && e->list[i].start <= (uint64_t)offset;

	if ((uint64_t)offset >= size)
		return -ENXIO;
	if (whence == SEEK_HOLE)
		return data ? (off_t)e->list[i].end : offset;
	if (data)
		return offset;
	return i < e->count ? (off_t)e->list[i].start : -ENXIO;
}

static off_t mem_seek(struct file *f, off_t offset, int whence)
{
	AUTO_EXTENTS struct extents e = { 0 };
	int r;

	if (f->region.kind == REGION_NONE)
		return -ENXIO;
	if (f->region.kind == REGION_SHARED && !f->view.under) {
		off_t at = lseek(f->region.fd, offset, whence);

		return at < 0 ? -errno : at;
	}
	r = region_view_extents(&f->view, &e);
	return r < 0 ? r : seek_extents(&e, f->region.size, offset, whence);
}

const struct kind mem_kind = {
	.stat = mem_stat,
	.open = mem_open,
	.close = mem_close,
	.read = bytes_read,
	.write = mem_write,
	.seek = mem_seek,
};

static void member_stat(const struct node *n, struct stat *st)
{
	struct stat own;

	if (n->shot->dir < 0 || fstatat(n->shot->dir, n->row->name, &own, AT_SYMLINK_NOFOLLOW))
		return;
	st->st_size = own.st_size;
	st->st_blocks = own.st_blocks;
}

/* The memory of a snapshot is not always what its file has: pages are still to be captured, or are another memory's. */
static int member_open(struct file *f)
{
	struct shot *s = f->node->shot;
	const char *name = f->node->row->name;

	if (s->snapshot && !strcmp(name, "memory.bin") && (s->snapshot->delta || atomic_load(&s->snapshot->pending))) {
		f->source = memory_source_ref(s->snapshot->memory);
		return 0;
	}
	f->fd = s->dir < 0 ? -ENOENT : shot_open(s, name);
	if (f->fd == -ENOENT && !strcmp(name, WORKING_SET_FILE))
		return 0; /* nothing is known yet */
	return f->fd < 0 ? f->fd : 0;
}

static void member_close(struct file *f)
{
	memory_source_unref(f->source);
	f->source = NULL;
}

/* What can be seen of a memory at this offset, as lseek(2) wants it. */
static off_t seek_source(struct memory_source *source, off_t offset, int whence)
{
	uint64_t at = (uint64_t)offset, end;

	while (at < source->size) {
		int data = memory_source_data(source, at, &end);

		if (data < 0)
			return data;
		if (!data == (whence == SEEK_HOLE))
			return (off_t)at;
		at = end;
	}
	if ((uint64_t)offset >= source->size)
		return -ENXIO;
	return whence == SEEK_HOLE ? (off_t)source->size : -ENXIO;
}

static off_t member_seek(struct file *f, off_t offset, int whence)
{
	off_t at;

	if (f->source)
		return seek_source(f->source, offset, whence);
	if (f->fd < 0)
		return -ENXIO;
	at = lseek(f->fd, offset, whence);
	return at < 0 ? -errno : at;
}

const struct kind member_kind = {
	.stat = member_stat,
	.open = member_open,
	.close = member_close,
	.read = bytes_read,
	.seek = member_seek,
};
