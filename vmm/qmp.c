/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "vmm/base/list.h"
#include "vmm/base/text.h"
#include "vmm/qmp_message.h"

#define COMMANDS_MAX 16
#define LINES_A_TURN 16
#define STRAYS_MAX 64 /* more than any client may have had unanswered */

struct command {
	struct list link;
	struct text line;
	size_t sent;
	int fd;
	qmp_answer answer;
	void *user;
};

struct qmp {
	int fd;
	bool greeted;
	uint32_t awaited;    /* the id of our first command, until it is answered: what comes before is the answer to a former client's; else 0 */
	unsigned int strays; /* such answers so far */
	unsigned int count;
	struct list unsent, sent;
	sd_event_source *source, *more; /* more: lines are left for the next turn */
	const struct qmp_handler *handler;
	void *user;
	size_t len;
	char in[QMP_LINE_MAX + 1]; /* the newline behind the longest line */
};

static void command_free(struct qmp *q, struct command *c)
{
	list_remove(&c->link);
	q->count--;
	text_finish(&c->line);
	close_fd(&c->fd);
	free(c);
}

static void forget_commands(struct qmp *q)
{
	struct command *c;

	while ((c = list_first(&q->unsent, struct command, link)) || (c = list_first(&q->sent, struct command, link)))
		command_free(q, c);
}

static void end(struct qmp *q, const struct failure *why)
{
	if (q->fd < 0)
		return;
	q->source = sd_event_source_disable_unref(q->source);
	sd_event_source_set_enabled(q->more, SD_EVENT_OFF);
	close_fd(&q->fd);
	forget_commands(q);
	q->handler->closed(why, q->user);
}

static void broken(struct qmp *q, int code, const char *what)
{
	struct failure why = { 0 };

	fail_errno(&why, code, "%s", what);
	end(q, &why);
}

/* Returns how many bytes went, or a negative errno. The descriptor rides on the command's first byte. */
static ssize_t send_some(struct qmp *q, struct command *c)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { c->line.data + c->sent, c->line.len - c->sent };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (c->fd >= 0 && !c->sent) {
		control.align = (struct cmsghdr){ CMSG_LEN(sizeof c->fd), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.align), &c->fd, sizeof c->fd);
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof control.bytes;
	}
	n = sendmsg(q->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n < 0 ? -errno : n;
}

static void flush(struct qmp *q)
{
	struct command *c;

	while (q->greeted && (c = list_first(&q->unsent, struct command, link))) {
		ssize_t n = send_some(q, c);

		if (n == -EINTR)
			continue;
		if (n < 0) /* a broken pipe is also seen by the reader, which has what was said before it */
			break;
		c->sent += (size_t)n;
		if (c->sent < c->line.len)
			continue;
		list_remove(&c->link);
		list_append(&q->sent, &c->link);
	}
	sd_event_source_set_io_events(q->source, EPOLLIN | (q->greeted && !list_empty(&q->unsent) ? EPOLLOUT : 0));
}

/* Whether it answers what a former client had asked. */
static bool is_stray(struct qmp *q, const struct qmp_message *m)
{
	if (!q->awaited)
		return false;
	if (m->has_id && m->id == q->awaited) {
		q->awaited = 0;
		return false;
	}
	return ++q->strays <= STRAYS_MAX;
}

static void answer(struct qmp *q, const struct qmp_message *m)
{
	bool awaited = q->awaited;
	struct command *c = list_first(&q->sent, struct command, link);
	struct failure why = { 0 };
	qmp_answer to;
	void *user;

	if (is_stray(q, m))
		return;
	if (!c || m->has_id != awaited) {
		broken(q, EPROTO, "QEMU answered a command that was not given");
		return;
	}
	to = c->answer;
	user = c->user;
	command_free(q, c);
	if (m->kind == QMP_ERROR)
		fail(&why, EIO, "QEMU says: %s", m->text);
	if (to)
		to(m->kind == QMP_ERROR ? &why : NULL, m->content, user);
}

static void take(struct qmp *q, const char *line, size_t n)
{
	struct qmp_message m;
	struct failure why = { 0 };

	if (qmp_message_parse(&m, line, n, &why) < 0) {
		why.code = EPROTO;
		end(q, &why);
		return;
	}
	if (!q->greeted && m.kind != QMP_GREETING && is_stray(q, &m)) {
		qmp_message_finish(&m);
		return;
	}
	if ((m.kind == QMP_GREETING) == q->greeted) {
		broken(q, EPROTO, "QEMU's greeting is missing or repeated");
	} else if (m.kind == QMP_GREETING) {
		q->greeted = true;
		flush(q);
	} else if (m.kind == QMP_EVENT) {
		q->handler->event(m.name, m.content, q->user);
	} else {
		answer(q, &m);
	}
	qmp_message_finish(&m);
}

static void take_lines(struct qmp *q)
{
	char *at = q->in, *newline = NULL;

	for (int i = 0; q->fd >= 0 && i < LINES_A_TURN && (newline = memchr(at, '\n', q->len - (size_t)(at - q->in))); i++) {
		size_t n = (size_t)(newline - at);

		if (n && at[n - 1] == '\r')
			n--;
		if (n)
			take(q, at, n);
		at = newline + 1;
	}
	q->len -= (size_t)(at - q->in);
	memmove(q->in, at, q->len);
	if (q->fd >= 0 && newline)
		sd_event_source_set_enabled(q->more, SD_EVENT_ONESHOT);
	else if (q->len == sizeof q->in)
		broken(q, EPROTO, "QEMU sent a line without an end");
}

static int on_more(sd_event_source *source, void *data)
{
	(void)source;
	take_lines(data);
	return 0;
}

/* One read a turn: a peer that never stops talking keeps nobody else waiting. What it said before comes first. */
static void receive(struct qmp *q)
{
	ssize_t n;
	int left;

	if (sd_event_source_get_enabled(q->more, &left) >= 0 && left != SD_EVENT_OFF)
		return;
	n = recv(q->fd, q->in + q->len, sizeof q->in - q->len, MSG_DONTWAIT);
	if (n > 0) {
		q->len += (size_t)n;
		take_lines(q);
	} else if (n == 0) {
		broken(q, ECONNRESET, "QEMU closed its control socket");
	} else if (errno != EAGAIN && errno != EINTR) {
		broken(q, ECONNRESET, "read QEMU's control socket");
	}
}

static int on_socket(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct qmp *q = data;

	(void)source;
	(void)fd;
	if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
		receive(q);
	if (q->fd >= 0 && (revents & EPOLLOUT))
		flush(q);
	return 0;
}

int qmp_create(struct qmp **ret, sd_event *event, int fd, bool again, const struct qmp_handler *handler, void *user)
{
	struct qmp *q = calloc(1, sizeof *q);
	int r = -ENOMEM;

	if (!q)
		goto no_memory;
	q->fd = fd;
	q->handler = handler;
	q->user = user;
	while (again && !q->awaited) /* so that it is no former client's either */
		q->awaited = arc4random();
	list_init(&q->unsent);
	list_init(&q->sent);
	r = sd_event_add_io(event, &q->source, fd, EPOLLIN, on_socket, q);
	if (r >= 0)
		r = sd_event_add_defer(event, &q->more, on_more, q);
	if (r < 0)
		goto no_source;
	sd_event_source_set_enabled(q->more, SD_EVENT_OFF);
	r = qmp_send(q, "qmp_capabilities", NULL, -1, NULL, NULL);
	if (r < 0)
		goto no_source;
	*ret = q;
	return 0;

no_source:
	sd_event_source_disable_unref(q->more);
	sd_event_source_disable_unref(q->source);
	free(q);
no_memory:
	close_fd(&fd);
	return r;
}

void qmp_destroy(struct qmp *q)
{
	if (!q)
		return;
	sd_event_source_disable_unref(q->more);
	sd_event_source_disable_unref(q->source);
	close_fd(&q->fd);
	forget_commands(q);
	free(q);
}

bool qmp_connected(const struct qmp *q)
{
	return q->fd >= 0;
}

/* No more than has to be: QEMU reads its monitor byte by byte, by a system call and a turn of its loop each. Answers come in the order of the commands, so that none needs
 * an id. */
static int command_create(struct command **ret, const char *command, const char *arguments, int fd, uint32_t id)
{
	struct command *c = calloc(1, sizeof *c);

	if (!c)
		return -ENOMEM;
	c->fd = -1;
	text_printf(&c->line, "{\"execute\":\"%s\"%s%s", command, arguments ? ",\"arguments\":" : "", arguments ?: "");
	if (id)
		text_printf(&c->line, ",\"id\":%u", id);
	text_puts(&c->line, "}");
	if (!c->line.failed && fd >= 0)
		c->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (c->line.failed || (fd >= 0 && c->fd < 0)) {
		int r = c->line.failed ? -ENOMEM : -errno;

		text_finish(&c->line);
		free(c);
		return r;
	}
	*ret = c;
	return 0;
}

int qmp_send(struct qmp *q, const char *command, const char *arguments, int fd, qmp_answer answer_, void *user)
{
	struct command *c = NULL;
	int r;

	if (q->fd < 0)
		return -ENOTCONN;
	if (q->count >= COMMANDS_MAX)
		return -EBUSY;
	r = command_create(&c, command, arguments, fd, list_empty(&q->unsent) && list_empty(&q->sent) ? q->awaited : 0);
	if (r < 0)
		return r;
	c->answer = answer_;
	c->user = user;
	q->count++;
	list_append(&q->unsent, &c->link);
	flush(q);
	return 0;
}
