/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/window.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "vmm/base/cleanup.h"

/* No fault is ever handled: user mode only is enough, and needs no privilege. */
static int open_uffd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	AUTO_CLOSE int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		return -errno;
	return steal_fd(&fd);
}

int window_open(struct window *ret, int memfd, uint64_t size)
{
	AUTO_CLOSE int uffd = open_uffd();
	struct uffdio_register reg = { .range = { .len = size }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	char *map;

	if (uffd < 0)
		return uffd;
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memfd, 0);
	if (map == MAP_FAILED)
		return -errno;
	reg.range.start = (uintptr_t)map;
	if (ioctl(uffd, UFFDIO_REGISTER, &reg)) {
		int r = -errno;

		munmap(map, size);
		return r;
	}
	*ret = (struct window){ steal_fd(&uffd), map, size };
	return 0;
}

void window_close(struct window *w)
{
	munmap(w->map, w->size);
	close_fd(&w->uffd);
}

int window_put(const struct window *w, const void *pages, size_t n, uint64_t offset)
{
	while (n) {
		struct uffdio_copy copy = {
			.dst = (uintptr_t)w->map + offset,
			.src = (uintptr_t)pages,
			.len = n,
			.mode = UFFDIO_COPY_MODE_DONTWAKE,
		};

		if (!ioctl(w->uffd, UFFDIO_COPY, &copy))
			return 0;
		if (copy.copy <= 0)
			return -errno;
		pages = (const char *)pages + copy.copy;
		offset += (uint64_t)copy.copy;
		n -= (size_t)copy.copy;
	}
	return 0;
}
