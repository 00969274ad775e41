/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/memory_source.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/memory/extents.h"
#include "vmm/memory/whole.h"

void memory_source_init(struct memory_source *s, const struct memory_source_ops *ops, uint64_t size)
{
	s->ops = ops;
	s->size = size;
	atomic_init(&s->refs, 1);
}

struct memory_source *memory_source_ref(struct memory_source *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void memory_source_unref(struct memory_source *s)
{
	if (s && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
		s->ops->destroy(s);
}

int memory_source_read(struct memory_source *s, void *buf, size_t n, uint64_t offset)
{
	size_t within = offset >= s->size ? 0 : n;

	if (within > s->size - offset)
		within = (size_t)(s->size - offset);
	memset((char *)buf + within, 0, n - within);
	return within ? s->ops->read(s, buf, within, offset) : 0;
}

int memory_source_data(struct memory_source *s, uint64_t offset, uint64_t *ret_end)
{
	*ret_end = UINT64_MAX;
	return offset < s->size ? s->ops->data(s, offset, ret_end) : 0;
}

int memory_source_explain(struct memory_source *s, int error, uint64_t offset, struct failure *why)
{
	fail_errno(why, -error, "reading guest RAM at %#llx", (unsigned long long)offset);
	if (why && s->ops->explain)
		s->ops->explain(s, error, why);
	return error;
}

int memory_source_own(struct memory_source *s, uint64_t offset, struct extent *ret)
{
	*ret = (struct extent){ offset, s->size };
	if (offset >= s->size)
		return 0;
	return s->ops->own ? s->ops->own(s, offset, ret) : 1;
}

int memory_source_extents(struct memory_source *s, struct extents *ret)
{
	uint64_t end;
	int r = 0;

	for (uint64_t at = 0; r >= 0 && at < s->size; at = end) {
		r = memory_source_data(s, at, &end);
		if (end > s->size)
			end = s->size;
		if (r > 0)
			r = extents_add(ret, at, end);
	}
	if (r < 0)
		extents_finish(ret);
	return r < 0 ? r : 0;
}

/* Whether the file has a page at `at`, and up to where that is so. SEEK_HOLE would tell at once, but walks all of a long run of data each time. */
static int look_in_file(int file, uint64_t at, uint64_t end, uint64_t *ret_to)
{
	off_t data = lseek(file, (off_t)at, SEEK_DATA);
	bool there = data == (off_t)at;

	if (data < 0 && errno != ENXIO)
		return -errno;
	if (!there) {
		*ret_to = data < 0 || (uint64_t)data > end ? end : (uint64_t)data;
		return 0;
	}
	while (data == (off_t)at && at < end) {
		at += PAGE_BYTES - at % PAGE_BYTES;
		data = lseek(file, (off_t)at, SEEK_DATA);
	}
	*ret_to = at < end ? at : end;
	return 1;
}

int memory_source_read_over(struct memory_source *under, int file, void *buf, size_t n, uint64_t offset)
{
	uint64_t end = offset + n, to = end;
	int r = 0;

	if (!under)
		return read_whole(file, buf, n, offset);
	for (uint64_t at = offset; r == 0 && at < end; at = to) {
		char *to_buf = (char *)buf + (at - offset);

		r = look_in_file(file, at, end, &to);
		if (r > 0)
			r = read_whole(file, to_buf, to - at, at);
		else if (r == 0)
			r = memory_source_read(under, to_buf, to - at, at);
	}
	return r;
}

struct file_source {
	struct memory_source base;
	int fd;
	struct timespec changed;
	struct extents extents;
};

/* Looked at after the bytes were read: what was cut off or written before that shows. */
static int file_is_same(const struct file_source *f)
{
	struct stat st;

	if (fstat(f->fd, &st))
		return -errno;
	if ((uint64_t)st.st_size < f->base.size || st.st_mtim.tv_sec != f->changed.tv_sec || st.st_mtim.tv_nsec != f->changed.tv_nsec)
		return -EIO;
	return 0;
}

static int file_read(struct memory_source *s, void *buf, size_t n, uint64_t offset)
{
	const struct file_source *f = (struct file_source *)s;
	int r = read_whole(f->fd, buf, n, offset);

	return r < 0 ? r : file_is_same(f);
}

static void file_explain(struct memory_source *s, int error, struct failure *why)
{
	const struct file_source *f = (struct file_source *)s;
	struct stat st;

	if (error != -EIO || fstat(f->fd, &st))
		return;
	if ((uint64_t)st.st_size < s->size)
		fail(why, EIO, "the memory file is truncated: it has %lld of %llu bytes", (long long)st.st_size, (unsigned long long)s->size);
	else if (file_is_same(f) < 0)
		fail(why, EIO, "the memory file was written to while it was in use");
}

static int file_data(struct memory_source *s, uint64_t offset, uint64_t *ret_end)
{
	const struct extents *e = &((struct file_source *)s)->extents;
	size_t i = extents_find(e, offset);

	if (i == e->count) {
		*ret_end = UINT64_MAX;
		return 0;
	}
	*ret_end = offset < e->list[i].start ? e->list[i].start : e->list[i].end;
	return offset >= e->list[i].start;
}

static void file_destroy(struct memory_source *s)
{
	struct file_source *f = (struct file_source *)s;

	close_fd(&f->fd);
	extents_finish(&f->extents);
	free(f);
}

static const struct memory_source_ops file_ops = {
	.read = file_read,
	.data = file_data,
	.explain = file_explain,
	.destroy = file_destroy,
};

/* The file is looked at again once the extents are known: where it was cut off or written to meanwhile, data may have looked like a hole. */
static int look_at_file(struct file_source *f, const struct extents *data, struct failure *why)
{
	struct stat st;
	int r;

	if (fstat(f->fd, &st))
		return fail_errno(why, errno, "the memory file");
	f->changed = st.st_mtim;
	r = data ? extents_union(&f->extents, data, &(struct extents){ 0 }) : extents_scan(&f->extents, f->fd, f->base.size);
	if (r < 0)
		return fail_errno(why, -r, "looking for data in the memory file");
	r = file_is_same(f);
	return r < 0 ? memory_source_explain(&f->base, r, 0, why) : 0;
}

int memory_source_create_file(struct memory_source **ret, int fd, uint64_t size, const struct extents *data, struct failure *why)
{
	struct file_source *f = calloc(1, sizeof *f);
	int r;

	if (!f)
		return fail(why, ENOMEM, "no memory for a source of pages");
	memory_source_init(&f->base, &file_ops, size);
	f->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	r = f->fd < 0 ? fail_errno(why, errno, "the memory file") : look_at_file(f, data, why);
	if (r < 0) {
		file_destroy(&f->base);
		return r;
	}
	*ret = &f->base;
	return 0;
}
