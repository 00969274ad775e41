/* SPDX-License-Identifier: Apache-2.0
 *
 * The side of handover.h inside a VMM's process: included by what runs there, which links nothing of ours. */
#ifndef FORKFS_HANDOVER_SERVE_H
#define FORKFS_HANDOVER_SERVE_H

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Returns the descriptor of the next message; -1: it had none; -2: the other end is closed. */
static int handover_receive(int socket_fd)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr head;
	} control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	struct cmsghdr *c;
	ssize_t n;
	int fd = -1;

	do
		n = recvmsg(socket_fd, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return -2;
	c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(c), sizeof fd);
	return fd;
}

/* Maps what is sent over [at, at + n), until the daemon closes its end or dies. Returns whether there is a guest: without one the VMM has nothing to live for. */
static bool handover_serve(int socket_fd, void *at, size_t n)
{
	bool guest = false;
	int fd;

	while ((fd = handover_receive(socket_fd)) != -2) {
		int error = 0;

		if (fd >= 0) {
			void *got = (void *)syscall(SYS_mmap, at, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, 0L);

			error = got == at ? 0 : errno;
			close(fd);
		}
		guest = true;
		if (send(socket_fd, &error, sizeof error, MSG_NOSIGNAL) != (ssize_t)sizeof error)
			break;
	}
	return guest;
}

#endif
