/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/typist.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "vmm/base/cleanup.h"

static void hang_up(struct typist *t)
{
	t->source = sd_event_source_disable_unref(t->source);
	close_fd(&t->fd);
}

/* A console that nobody drains would stop the guest. */
static void drain(struct typist *t)
{
	char scrap[16384];
	ssize_t n = recv(t->fd, scrap, sizeof scrap, MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		hang_up(t);
}

static int on_console(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct typist *t = data;

	(void)fd;
	if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
		drain(t);
	if (!t->waiting || (t->fd >= 0 && !(revents & EPOLLOUT)))
		return 0;
	t->waiting = false; /* also at the end: the next attempt says -EIO */
	if (t->fd >= 0)
		sd_event_source_set_io_events(source, EPOLLIN);
	t->typable(t->data);
	return 0;
}

int typist_init(struct typist *t, sd_event *event, int fd, void (*typable)(void *data), void *data)
{
	int r;

	*t = (struct typist){ .fd = fd, .typable = typable, .data = data };
	r = sd_event_add_io(event, &t->source, fd, EPOLLIN, on_console, t);
	if (r < 0)
		close_fd(&t->fd);
	return r < 0 ? r : 0;
}

void typist_finish(struct typist *t)
{
	hang_up(t);
	t->waiting = false;
}

/* A pipe's other end is a process of ours: SIGPIPE is ignored. */
static ssize_t put(int fd, const void *data, size_t n)
{
	ssize_t sent = send(fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);

	return sent < 0 && errno == ENOTSOCK ? write(fd, data, n) : sent;
}

ssize_t typist_type(struct typist *t, const void *data, size_t n)
{
	ssize_t sent;

	if (t->fd < 0)
		return -EIO;
	sent = put(t->fd, data, n);
	if (sent > 0)
		return sent;
	if (sent < 0 && errno != EAGAIN && errno != EINTR)
		return -EIO;
	t->waiting = true;
	sd_event_source_set_io_events(t->source, EPOLLIN | EPOLLOUT);
	return -EAGAIN;
}
