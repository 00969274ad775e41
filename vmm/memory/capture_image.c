/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/capture_image.h"

#include <fcntl.h>
#include <string.h>

#include "vmm/memory/pagemap.h"
#include "vmm/memory/whole.h"

#define CACHE_LINE 64u

static uint64_t page_of(uint64_t offset)
{
	return offset / PAGE_BYTES;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Where the run of pages that are like the one at `offset` in `bits` ends, at `end` at the latest. That one was looked at before and may have been set
 * since: it isn't looked at again. */
static uint64_t run_end(const struct page_bits *bits, uint64_t offset, uint64_t end, bool set)
{
	uint64_t page = page_bits_next(bits, page_of(offset) + 1, least(page_of(end + PAGE_BYTES - 1), bits->pages), !set);

	return least(page * PAGE_BYTES, end);
}

static int read_own(struct capture_image *image, char *buf, uint64_t offset, uint64_t end)
{
	int r = read_whole(image->mem, buf, end - offset, image->base + offset);

	/* The kernel gives 0 bytes of a process without an address space. */
	return r == -EIO ? -ESRCH : r;
}

int capture_image_read_guest(struct capture_image *image, void *buf, size_t n, uint64_t offset)
{
	uint64_t end = offset + n, to;
	int r = 0;

	for (uint64_t at = offset; r == 0 && at < end; at = to) {
		bool own = page_bits_test(&image->own, page_of(at));
		char *to_buf = (char *)buf + (at - offset);

		to = run_end(&image->own, at, end, own);
		if (own)
			r = read_own(image, to_buf, at, to);
		else
			r = memory_source_read_over(image->region.kind == REGION_SHARED ? image->under : NULL, image->region.fd, to_buf, to - at, at);
	}
	return r;
}

/* Most pages of data begin with something else than zeros. */
static bool is_zero(const char *page)
{
	static const char zeros[CACHE_LINE];

	return !memcmp(page, zeros, CACHE_LINE) && !memcmp(page, page + CACHE_LINE, PAGE_BYTES - CACHE_LINE);
}

/* A hole of a delta's file is a page that it has not. */
static bool leave_out(const struct capture_image *image, const char *page)
{
	return !image->delta && is_zero(page);
}

int capture_image_write(struct capture_image *image, const char *buf, size_t n, uint64_t offset)
{
	int r = 0;

	for (size_t at = 0, to; r == 0 && at < n; at = to) {
		bool zero = leave_out(image, buf + at);

		for (to = at + PAGE_BYTES; to < n && leave_out(image, buf + to) == zero;)
			to += PAGE_BYTES;
		if (!zero)
			r = write_whole(image->file, buf + at, to - at, offset + at);
	}
	return r;
}

/* Reads what isn't captured yet of [offset, end), as if it could not change. Returns 1 where some of it was captured meanwhile, hence may have been written to
 * before it was read; 0; or a negative errno. */
static int read_early(struct capture_image *image, char *buf, uint64_t offset, uint64_t end)
{
	int r;

	pthread_rwlock_rdlock(&image->lock);
	r = image->ended ? -ECANCELED : capture_image_read_guest(image, buf, end - offset, offset);
	pthread_rwlock_unlock(&image->lock);
	for (uint64_t page = page_of(offset); page <= page_of(end - 1); page++)
		if (page_bits_test_after_reads(&image->captured, page))
			return 1;
	return r;
}

static int read_no_data(struct capture_image *image, char *buf, size_t n, uint64_t offset)
{
	if (image->delta)
		return memory_source_read(image->under, buf, n, offset);
	memset(buf, 0, n);
	return 0;
}

static int image_read(struct memory_source *s, void *buf, size_t n, uint64_t offset)
{
	struct capture_image *image = (struct capture_image *)s;
	uint64_t at = offset, end = offset + n, to;
	int r = 0;

	for (; r >= 0 && at < end; at = r > 0 ? at : to) {
		bool data = page_bits_test(&image->data, page_of(at)), captured = page_bits_test(&image->captured, page_of(at));
		char *to_buf = (char *)buf + (at - offset);

		to = run_end(&image->data, at, end, data);
		if (!data) {
			r = read_no_data(image, to_buf, to - at, at);
			continue;
		}
		to = run_end(&image->captured, at, to, captured);
		r = captured ? read_whole(image->file, to_buf, to - at, at) : read_early(image, to_buf, at, to);
	}
	return r;
}

static int image_data(struct memory_source *s, uint64_t offset, uint64_t *ret_end)
{
	struct capture_image *image = (struct capture_image *)s;
	bool data = page_bits_test(&image->data, page_of(offset));
	uint64_t end = run_end(&image->data, offset, s->size, data);
	int r = data;

	*ret_end = end;
	if (!data && image->delta)
		r = memory_source_data(image->under, offset, ret_end);
	*ret_end = least(*ret_end, end);
	return r;
}

static int image_own(struct memory_source *s, uint64_t offset, struct extent *ret)
{
	struct capture_image *image = (struct capture_image *)s;
	uint64_t at = page_bits_next(&image->data, page_of(offset), image->data.pages, true);

	if (!image->delta)
		return 1;
	*ret = (struct extent){ at * PAGE_BYTES, page_bits_next(&image->data, at, image->data.pages, false) * PAGE_BYTES };
	return at < image->data.pages;
}

/* Everything that keeps the guest's memory from being given back. */
static void let_go(struct capture_image *image)
{
	close_fd(&image->mem);
	close_fd(&image->pagemap);
	region_finish(&image->region);
	if (image->delta)
		return;
	memory_source_unref(image->under);
	image->under = NULL;
}

void capture_image_end(struct capture_image *image)
{
	pthread_rwlock_wrlock(&image->lock);
	image->ended = true;
	let_go(image);
	pthread_rwlock_unlock(&image->lock);
}

static void image_destroy(struct memory_source *s)
{
	struct capture_image *image = (struct capture_image *)s;

	let_go(image);
	memory_source_unref(image->under);
	close_fd(&image->file);
	page_bits_finish(&image->captured);
	page_bits_finish(&image->data);
	page_bits_finish(&image->own);
	pthread_rwlock_destroy(&image->lock);
	free(image);
}

static void image_explain(struct memory_source *s, int error, struct failure *why)
{
	(void)s;
	if (error == -ECANCELED)
		fail(why, EIO, "the snapshot that it comes from was never completed");
}

static const struct memory_source_ops image_ops = {
	.read = image_read,
	.explain = image_explain,
	.data = image_data,
	.own = image_own,
	.destroy = image_destroy,
};

static int duplicate(int *ret, int fd)
{
	*ret = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return fd >= 0 && *ret < 0 ? -errno : 0;
}

int capture_image_find_own(struct capture_image *image, uint64_t from, uint64_t to, bool swapped)
{
	struct pagemap_walk walk;
	struct extent run;
	int r;

	if (image->pagemap < 0)
		return 0;
	pagemap_walk_init(&walk, image->pagemap, image->base + from * PAGE_BYTES, image->base + to * PAGE_BYTES,
			  swapped ? PAGEMAP_OWN : PAGEMAP_RESIDENT);
	while ((r = pagemap_walk_next(&walk, &run)) > 0)
		page_bits_set_range(&image->own, page_of(run.start - image->base), page_of(run.end - image->base));
	return r;
}

static int image_init(struct capture_image *image, const struct region_view *view, int file)
{
	uint64_t pages = page_of(view->region->size);
	int r = duplicate(&image->file, file);

	if (r == 0)
		r = duplicate(&image->mem, view->mem);
	if (r == 0)
		r = duplicate(&image->pagemap, view->pagemap);
	if (r == 0)
		r = duplicate(&image->region.fd, view->region->fd);
	if (r < 0)
		return r;
	image->region.kind = view->region->kind;
	image->region.size = view->region->size;
	if (ftruncate(image->file, (off_t)image->region.size))
		return -errno;
	if (page_bits_init(&image->captured, pages) || page_bits_init(&image->data, pages) || page_bits_init(&image->own, pages))
		return -ENOMEM;
	return 0;
}

/* Many readers in turn must not keep the pager's thread waiting. */
static void init_lock(pthread_rwlock_t *lock)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

int capture_image_create(struct capture_image **ret, const struct region_view *view, uint64_t base, int file, struct failure *why)
{
	struct capture_image *image = calloc(1, sizeof *image);
	int r;

	if (!image)
		return fail(why, ENOMEM, "no memory to capture guest RAM with");
	memory_source_init(&image->source, &image_ops, view->region->size);
	init_lock(&image->lock);
	image->file = image->mem = image->pagemap = image->region.fd = -1;
	image->base = base;
	image->under = view->under ? memory_source_ref(view->under) : NULL;
	image->delta = view->under && view->region->kind == REGION_FILE;
	r = image_init(image, view, file);
	if (r < 0) {
		memory_source_unref(&image->source);
		return fail_errno(why, -r, "preparing a capture of guest RAM");
	}
	*ret = image;
	return 0;
}

static void add_extents(struct capture_image *image, const struct extents *e)
{
	for (size_t i = 0; i < e->count; i++)
		page_bits_set_range(&image->data, page_of(e->list[i].start), least(page_of(e->list[i].end), image->data.pages));
}

static int find_in_region(struct capture_image *image)
{
	AUTO_EXTENTS struct extents file = { 0 }, under = { 0 };
	int r = extents_scan(&file, image->region.fd, image->region.size);

	if (r == 0 && image->under)
		r = memory_source_extents(image->under, &under);
	if (r < 0)
		return r;
	add_extents(image, &file);
	add_extents(image, &under);
	return 0;
}

/* Pages in swap were looked for before anything was protected: afterwards they can't be told from protected holes. */
int capture_image_find_data(struct capture_image *image)
{
	int r = image->delta ? 0 : find_in_region(image);

	if (r == 0)
		r = capture_image_find_own(image, 0, image->own.pages, false);
	if (r == 0)
		page_bits_merge(&image->data, &image->own);
	return r;
}
