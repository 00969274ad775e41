/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define PIECE (4u << 20) /* between two looks whether it is still wanted */

static int open_disk(const struct disk_spec *s, struct stat *st, struct failure *why)
{
	AUTO_CLOSE int path = caller_open(s->as, s->path, why);
	int fd;

	if (path < 0)
		return path;
	fd = caller_read(s->as, path, s->path, why);
	if (fd >= 0 && fstat(fd, st)) {
		fail_errno(why, errno, "%s", s->path);
		close_fd(&fd);
		return -why->code;
	}
	return fd;
}

/* Found out at its end, a lack of room would have been everybody's meanwhile. */
static int check_room(const struct disk_spec *s, int to, const struct stat *st, struct failure *why)
{
	uint64_t need = (uint64_t)st->st_blocks * 512, free;
	struct statvfs fs;

	if (fstatvfs(to, &fs))
		return fail_errno(why, errno, "%s", s->dir);
	free = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (free >= need)
		return 0;
	return fail(why, ENOSPC, "%s: a copy takes %llu bytes, %s has %llu", s->path, (unsigned long long)need, s->dir, (unsigned long long)free);
}

/* From `at` to `end`; both files' offsets are ours. Returns 0 or a negative errno. */
static int copy_range(const struct disk_spec *s, int to, int from, off_t at, off_t end)
{
	if (lseek(to, at, SEEK_SET) < 0)
		return -errno;
	while (at < end) {
		ssize_t n = sendfile(to, from, &at, end - at < PIECE ? (size_t)(end - at) : PIECE);

		if (atomic_load(s->cancelled))
			return -ECANCELED;
		if (n < 0)
			return -errno;
		if (n == 0) /* it was cut off meanwhile */
			return -EIO;
	}
	return 0;
}

static int copy_data(const struct disk_spec *s, int to, int from, off_t size, uint64_t *ret)
{
	off_t end = 0;

	*ret = 0;
	if (ftruncate(to, size))
		return -errno;
	for (;;) {
		off_t at = lseek(from, end, SEEK_DATA);
		int r;

		if (at < 0 || at >= size)
			return at >= 0 || errno == ENXIO ? 0 : -errno;
		end = lseek(from, at, SEEK_HOLE);
		if (end < 0)
			return -errno;
		end = end < size ? end : size;
		r = copy_range(s, to, from, at, end);
		if (r < 0)
			return r;
		*ret += (uint64_t)(end - at);
	}
}

int disk_copy(const struct disk_spec *s, struct disk_copied *ret, struct failure *why)
{
	struct disk_copied copied = { 0 };
	struct stat st;
	AUTO_CLOSE int from = open_disk(s, &st, why), to = -1;
	int r;

	if (from < 0)
		return from;
	to = open(s->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (to < 0)
		return fail_errno(why, errno, "%s: a copy in %s", s->path, s->dir);
	copied.reflink = ioctl(to, FICLONE, from) == 0;
	r = copied.reflink ? 0 : check_room(s, to, &st, why);
	if (r < 0)
		return r;
	if (!copied.reflink)
		r = copy_data(s, to, from, st.st_size, &copied.bytes);
	if (r < 0)
		return fail_errno(why, -r, "%s: a copy in %s", s->path, s->dir);
	*ret = copied;
	return steal_fd(&to);
}
