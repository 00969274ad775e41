/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "vmm/base/io.h"

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
		r = lseek(to, at, SEEK_SET) < 0 ? -errno : copy_range(to, from, at, end, s->cancelled);
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
