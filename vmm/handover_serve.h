/* SPDX-License-Identifier: Apache-2.0
 *
 * The side of handover.h inside a VMM's process: included by what runs there, which links nothing of ours. */
#ifndef FORKFS_HANDOVER_SERVE_H
#define FORKFS_HANDOVER_SERVE_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/handover.h"
#include "vmm/memory/uffd.h"
#include "vmm/memory/written.h"

#ifndef USERFAULTFD_IOC_NEW /* linux/userfaultfd.h since 6.1 */
#define USERFAULTFD_IOC_NEW _IO(UFFDIO, 0x00)
#endif

/* One that traps the kernel's accesses to guest RAM too. `device`: /dev/userfaultfd, or -1. Returns the descriptor or a negative errno. */
static int handover_make_uffd(int device, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd, error;

	if (device >= 0)
		fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	else
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (!ioctl(fd, UFFDIO_API, &api))
		return fd;
	error = errno;
	close(fd);
	return -error;
}

static void handover_send_hello(int socket_fd, const struct handover_hello *hello, const int *uffds, size_t count)
{
	union {
		char space[CMSG_SPACE(HANDOVER_UFFDS * sizeof(int))];
		struct cmsghdr head;
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)hello, sizeof *hello };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = count ? &control : NULL, .msg_controllen = count ? CMSG_SPACE(count * sizeof(int)) : 0 };

	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(&control.head), uffds, count * sizeof(int));
	(void)!sendmsg(socket_fd, &m, MSG_NOSIGNAL);
}

/* The descriptors stay open in here: when the last one closes, pages still to come would read as zeros. */
static void handover_greet(int socket_fd, const void *at, size_t n, int device)
{
	struct handover_hello hello = { .at = (uintptr_t)at, .size = n, .features = UFFD_FEATURES_MISSING | UFFD_FEATURES_CAPTURE };
	int uffd = handover_make_uffd(device, hello.features), uffds[HANDOVER_UFFDS];
	size_t count = 0;

	if (uffd == -EINVAL) {
		hello.features = UFFD_FEATURES_MISSING;
		uffd = handover_make_uffd(device, hello.features);
	}
	if (uffd >= 0)
		uffds[count++] = uffd;
	hello.error = uffd < 0 ? -uffd : 0;
	uffd = handover_make_uffd(device, UFFD_FEATURES_WRITTEN);
	if (uffd >= 0)
		uffds[count++] = uffd;
	hello.notes_error = uffd < 0 ? -uffd : 0;
	handover_send_hello(socket_fd, &hello, uffds, count);
}

/* Returns the next message, 0: the other end is closed. *ret_fd is its first descriptor, or -1; a second one stays open. */
static char handover_receive(int socket_fd, int *ret_fd)
{
	union {
		char space[CMSG_SPACE(HANDOVER_KEPT * sizeof(int))];
		struct cmsghdr head;
	} control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	struct cmsghdr *c;
	ssize_t n;

	*ret_fd = -1;
	do
		n = recvmsg(socket_fd, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return 0;
	c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(ret_fd, CMSG_DATA(c), sizeof *ret_fd);
	return byte;
}

/* The descriptor stays open where it is mapped: a mapping alone could be had again only by who may look into this process' address space. Returns an errno or 0. */
static int handover_map(void *at, size_t n, int fd)
{
	void *got = (void *)syscall(SYS_mmap, at, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, 0L);
	int error = got == at ? 0 : errno;

	if (error)
		close(fd);
	return error;
}

/* The daemon that comes next, of the same user, is not our ancestor: Yama (kernel.yama.ptrace_scope 1) lets it take our descriptors only if it is named beforehand, and nobody knows it
 * yet. Without Yama there is nothing to allow. */
static void handover_allow_successor(void)
{
	(void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
}

/* Maps what is sent over [at, at + n), until the daemon closes its end or dies. What it is told to keep it only has open. Returns whether the VMM is to go on without the daemon. */
static bool handover_serve(int socket_fd, void *at, size_t n)
{
	bool lives = false;
	char what;
	int fd;

	while ((what = handover_receive(socket_fd, &fd))) {
		int error;

		if (what == HANDOVER_LIVE)
			handover_allow_successor();
		lives = lives || what == HANDOVER_LIVE;
		if (what != HANDOVER_MAP || fd < 0)
			continue;
		error = handover_map(at, n, fd);
		if (send(socket_fd, &error, sizeof error, MSG_NOSIGNAL) != (ssize_t)sizeof error)
			break;
	}
	return lives;
}

#endif
