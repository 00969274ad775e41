/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/record.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "vmm/base/log.h"

#define BLOCK 4096u

void record_init(struct record *r, uint64_t max)
{
	*r = (struct record){ .fd = -1, .max = max };
	list_init(&r->grown);
}

/* Half at a time, so that a reader who follows sees few truncations and not one a line. */
static void cut(struct record *r)
{
	uint64_t start = (r->end - r->max / 2) & ~(uint64_t)(BLOCK - 1);

	if (r->end - r->start <= r->max || start <= r->start)
		return;
	if (fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)start))
		log_debug("a record's old part can't be freed: %m");
	r->start = start;
}

void record_refresh(struct record *r)
{
	struct stat st;

	if (r->fd < 0 || fstat(r->fd, &st) || (uint64_t)st.st_size == r->end)
		return;
	if ((uint64_t)st.st_size < r->end)
		r->start = 0; /* somebody cut the file itself */
	r->end = (uint64_t)st.st_size;
	cut(r);
	signal_emit(&r->grown);
}

static int on_modify(sd_event_source *source, const struct inotify_event *event, void *data)
{
	(void)source;
	(void)event;
	record_refresh(data);
	return 0;
}

/* Where the kept part of a file begins whose front was dropped before this daemon's time. */
static uint64_t first_data(int fd)
{
	off_t at = lseek(fd, 0, SEEK_DATA);

	return at < 0 ? 0 : (uint64_t)at;
}

int record_open(struct record *r, sd_event *event, int fd)
{
	char path[32];
	int result;

	sd_event_source_disable_unref(r->watch);
	r->watch = NULL;
	close_fd(&r->fd);
	r->start = r->end = 0;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	result = sd_event_add_inotify(event, &r->watch, path, IN_MODIFY, on_modify, r);
	if (result < 0) {
		close_fd(&fd);
		return result;
	}
	r->fd = fd;
	r->start = r->end = first_data(fd);
	record_refresh(r);
	signal_emit(&r->grown);
	return 0;
}

void record_finish(struct record *r)
{
	r->watch = sd_event_source_disable_unref(r->watch);
	close_fd(&r->fd);
	r->start = r->end = 0;
}

ssize_t record_read(const struct record *r, void *buf, size_t n, uint64_t offset)
{
	ssize_t got;

	if (r->fd < 0 || offset >= record_size(r))
		return 0;
	if (n > record_size(r) - offset)
		n = record_size(r) - offset;
	got = pread(r->fd, buf, n, (off_t)(r->start + offset));
	return got < 0 ? -errno : got;
}
