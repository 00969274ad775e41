/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/handover.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

int handover_pair(int *ret_ours, int *ret_theirs)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	*ret_ours = pair[0];
	*ret_theirs = pair[1];
	return 0;
}

static int on_answer(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct handover *h = data;
	int error;
	ssize_t n = recv(fd, &error, sizeof error, MSG_DONTWAIT);

	(void)revents;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	sd_event_source_set_enabled(source, n == (ssize_t)sizeof error ? SD_EVENT_ON : SD_EVENT_OFF);
	if (n == (ssize_t)sizeof error)
		h->answered(error < 0 || error > 4095 ? -EIO : -error, h->data);
	else
		h->answered(-EPIPE, h->data);
	return 0;
}

int handover_init(struct handover *h, sd_event *event, int ours, void (*answered)(int error, void *data), void *data)
{
	int r;

	*h = (struct handover){ .fd = ours, .answered = answered, .data = data };
	r = sd_event_add_io(event, &h->source, ours, EPOLLIN, on_answer, h);
	if (r < 0)
		close_fd(&h->fd);
	return r < 0 ? r : 0;
}

void handover_finish(struct handover *h)
{
	h->source = sd_event_source_disable_unref(h->source);
	close_fd(&h->fd);
}

int handover_give(struct handover *h, int memory)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr head;
	} control = { 0 };
	char byte = 'm';
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = memory < 0 ? NULL : &control, .msg_controllen = memory < 0 ? 0 : sizeof control };

	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.head), &memory, sizeof memory);
	return sendmsg(h->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 ? 0 : -errno;
}
