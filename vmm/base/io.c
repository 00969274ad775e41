/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/io.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "vmm/base/cleanup.h"

#define PIECE (4u << 20) /* between two looks whether it is still wanted */

int read_file(int fd, size_t max, char **ret, size_t *ret_size)
{
	AUTO_FREE char *buf = NULL;
	struct stat st;
	size_t have = 0;
	ssize_t n;

	if (fstat(fd, &st))
		return -errno;
	if ((uint64_t)st.st_size > max)
		return -EFBIG;
	buf = malloc((size_t)st.st_size + 1);
	if (!buf)
		return -ENOMEM;
	while ((n = pread(fd, buf + have, (size_t)st.st_size - have, (off_t)have)) > 0)
		have += (size_t)n;
	if (n < 0)
		return -errno;
	buf[have] = '\0';
	*ret = steal_ptr(&buf);
	*ret_size = have;
	return 0;
}

int copy_range(int to, int from, off_t at, off_t end, const atomic_bool *cancelled)
{
	while (at < end) {
		ssize_t n = sendfile(to, from, &at, end - at < PIECE ? (size_t)(end - at) : PIECE);

		if (cancelled && atomic_load(cancelled))
			return -ECANCELED;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
	}
	return 0;
}

int write_all(int fd, const char *data, size_t n)
{
	while (n) {
		ssize_t k = write(fd, data, n);

		if (k < 0)
			return -errno;
		data += k;
		n -= (size_t)k;
	}
	return 0;
}

static int write_whole(int dir, const char *name, const char *text)
{
	AUTO_CLOSE int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : write_all(fd, text, strlen(text));
}

int write_anew(int dir, const char *name, const char *text)
{
	char aside[NAME_MAX + 1];
	int r;

	if (snprintf(aside, sizeof aside, "%s.new", name) >= (int)sizeof aside)
		return -ENAMETOOLONG;
	r = write_whole(dir, aside, text);
	if (r == 0 && renameat(dir, aside, dir, name))
		r = -errno;
	if (r < 0)
		unlinkat(dir, aside, 0);
	return r;
}

int each_name(int fd, void (*each)(int dir, const char *name, void *data), void *data)
{
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int r;

	if (!d) {
		r = fd < 0 ? 0 : -errno;
		close_fd(&fd);
		return r;
	}
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			each(dirfd(d), e->d_name, data);
	closedir(d);
	return 0;
}
