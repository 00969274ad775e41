/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/uffd.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "vmm/base/cleanup.h"

#ifndef USERFAULTFD_IOC_NEW /* linux/userfaultfd.h since 6.1 */
#define USERFAULTFD_IOC_NEW _IO(UFFDIO, 0x00)
#endif

#define TRIES 64 /* the mapping is changed for the length of one system call */

int uffd_features(uint64_t *ret)
{
	struct uffdio_api api = { .api = UFFD_API };
	AUTO_CLOSE int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		return -errno;
	*ret = api.features;
	return 0;
}

int uffd_open(int device, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	AUTO_CLOSE int fd = -1;

	if (device >= 0)
		fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	else
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		return -errno;
	return steal_fd(&fd);
}

int uffd_register(int uffd, uint64_t start, uint64_t n, uint64_t modes)
{
	struct uffdio_register reg = { .range = { start, n }, .mode = modes };

	return ioctl(uffd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

int uffd_unregister(int uffd, uint64_t start, uint64_t n)
{
	struct uffdio_range range = { start, n };

	return ioctl(uffd, UFFDIO_UNREGISTER, &range) ? -errno : 0;
}

/* The kernel stops at a page that is there and tells of the pages before it with EAGAIN: only the next call gives the reason. */
int uffd_copy(int uffd, uint64_t to, const void *pages, size_t n, uint64_t modes, size_t *ret_done)
{
	*ret_done = 0;
	while (*ret_done < n) {
		struct uffdio_copy copy = {
			.dst = to + *ret_done,
			.src = (uintptr_t)pages + *ret_done,
			.len = n - *ret_done,
			.mode = modes,
		};

		if (ioctl(uffd, UFFDIO_COPY, &copy) && copy.copy <= 0)
			return -errno;
		*ret_done += (size_t)copy.copy;
	}
	return 0;
}

int uffd_zeropage(int uffd, uint64_t to, size_t n, size_t *ret_done)
{
	*ret_done = 0;
	while (*ret_done < n) {
		struct uffdio_zeropage zero = { .range = { to + *ret_done, n - *ret_done } };

		if (ioctl(uffd, UFFDIO_ZEROPAGE, &zero) && zero.zeropage <= 0)
			return -errno;
		*ret_done += (size_t)zero.zeropage;
	}
	return 0;
}

int uffd_writeprotect(int uffd, uint64_t start, uint64_t n, bool protect)
{
	struct uffdio_writeprotect wp = { .range = { start, n }, .mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0 };

	for (int i = 0; i < TRIES; i++) {
		if (!ioctl(uffd, UFFDIO_WRITEPROTECT, &wp))
			return 0;
		if (errno != EAGAIN)
			return -errno;
		sched_yield();
	}
	return -EAGAIN;
}

int uffd_wake(int uffd, uint64_t start, uint64_t n)
{
	struct uffdio_range range = { start, n };

	return ioctl(uffd, UFFDIO_WAKE, &range) ? -errno : 0;
}

/* Whoever made the descriptor has the same open file and can make it blocking again: since 6.10 that is of no effect here. */
int uffd_read(int uffd, struct uffd_msg *msgs, size_t max)
{
	struct iovec to = { msgs, max * sizeof *msgs };
	ssize_t n = preadv2(uffd, &to, 1, -1, RWF_NOWAIT);

	if (n < 0 && errno == EOPNOTSUPP)
		n = read(uffd, msgs, max * sizeof *msgs);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	return (int)((size_t)n / sizeof *msgs);
}
