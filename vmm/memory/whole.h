/* SPDX-License-Identifier: Apache-2.0
 *
 * pread(2) and pwrite(2) that go on until all is done. Private to memory/. */
#ifndef FORKFS_MEMORY_WHOLE_H
#define FORKFS_MEMORY_WHOLE_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

/* Returns 0, -EIO where the file ends before that, or another negative errno. */
static inline int read_whole(int fd, void *buf, size_t n, uint64_t offset)
{
	for (char *at = buf; n;) {
		ssize_t k = pread(fd, at, n, (off_t)offset);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k < 0 ? -errno : -EIO;
		at += k;
		n -= (size_t)k;
		offset += (size_t)k;
	}
	return 0;
}

/* Returns 0 or a negative errno. */
static inline int write_whole(int fd, const void *buf, size_t n, uint64_t offset)
{
	for (const char *at = buf; n;) {
		ssize_t k = pwrite(fd, at, n, (off_t)offset);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k < 0 ? -errno : -ENOSPC;
		at += k;
		n -= (size_t)k;
		offset += (size_t)k;
	}
	return 0;
}

#endif
