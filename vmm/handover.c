/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/handover.h"

#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "vmm/handed.h"

int handover_pair(int *ret_ours, int *ret_theirs)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	*ret_ours = pair[0];
	*ret_theirs = pair[1];
	return 0;
}

int handover_uffd_device(void)
{
	return open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
}

/* Returns bytes, 0 where there is nothing yet, or -EPIPE. Of the hello ret_fds are the descriptors that came along, or -1; what comes later brings none in here. */
static ssize_t receive(int fd, void *buf, size_t n, int *ret_fds)
{
	union {
		char space[CMSG_SPACE(HANDOVER_UFFDS * sizeof(int))];
		struct cmsghdr head;
	} control;
	struct iovec iov = { buf, n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ret_fds ? &control : NULL, .msg_controllen = ret_fds ? sizeof control : 0 };
	ssize_t got = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = got > 0 && ret_fds ? CMSG_FIRSTHDR(&m) : NULL;

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(ret_fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	for (int i = 0; ret_fds && i < HANDOVER_UFFDS; i++)
		ret_fds[i] = handed_uffd(ret_fds[i]);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	return got > 0 ? got : -EPIPE;
}

/* An errno that was sent, as a negative one. */
static int error_of(int sent)
{
	return sent < 0 || sent > 4095 ? -EIO : -sent;
}

static void take_hello(struct handover *h, const struct handover_hello *hello, ssize_t n, int *fds)
{
	struct vm_memory memory = VM_MEMORY_UNKNOWN;
	int *next = fds;

	h->greeted = true;
	if (n != (ssize_t)sizeof *hello) {
		h->hello(NULL, h->data);
		return;
	}
	memory.at = hello->at;
	memory.features = hello->features;
	memory.error = error_of(hello->error);
	if (!hello->error)
		memory.uffd = steal_fd(next++);
	if (!hello->notes_error)
		memory.notes = steal_fd(next);
	h->hello(&memory, h->data);
}

static int on_message(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct handover *h = data;
	union {
		struct handover_hello hello;
		int error;
	} m;
	int uffds[HANDOVER_UFFDS] = { -1, -1 };
	ssize_t n = receive(fd, &m, sizeof m, h->greeted ? NULL : uffds);

	(void)revents;
	if (n == 0)
		return 0;
	sd_event_source_set_enabled(source, n > 0 ? SD_EVENT_ON : SD_EVENT_OFF);
	if (!h->greeted)
		take_hello(h, &m.hello, n, uffds);
	else if (n == (ssize_t)sizeof m.error)
		h->answered(error_of(m.error), h->data);
	else
		h->answered(-EPIPE, h->data);
	for (int i = 0; i < HANDOVER_UFFDS; i++)
		close_fd(&uffds[i]);
	return 0;
}

int handover_init(struct handover *h, sd_event *event, int ours)
{
	int r;

	h->fd = ours;
	r = sd_event_add_io(event, &h->source, ours, EPOLLIN, on_message, h);
	if (r < 0)
		close_fd(&h->fd);
	return r < 0 ? r : 0;
}

void handover_finish(struct handover *h)
{
	h->source = sd_event_source_disable_unref(h->source);
	close_fd(&h->fd);
}

static int say(const struct handover *h, char byte, const int *fds, size_t count)
{
	union {
		char space[CMSG_SPACE(HANDOVER_KEPT * sizeof(int))];
		struct cmsghdr head;
	} control = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = count ? &control : NULL, .msg_controllen = count ? CMSG_SPACE(count * sizeof(int)) : 0 };

	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(&control.head), fds, count * sizeof(int));
	return sendmsg(h->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 ? 0 : -errno;
}

int handover_give(struct handover *h, int memory)
{
	return say(h, HANDOVER_MAP, &memory, 1);
}

int handover_live(struct handover *h, const int *keep, size_t n)
{
	int fds[HANDOVER_KEPT] = { -1, -1 };
	size_t count = 0;

	for (size_t i = 0; i < n; i++)
		if (keep[i] >= 0)
			fds[count++] = keep[i];
	return say(h, HANDOVER_LIVE, fds, count);
}
