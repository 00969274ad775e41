/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "vmm/qmp.h"
#include "vmm/qmp_message.h"

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\r\n"

/* --- the parser --- */

static int parse(struct qmp_message *m, const char *line)
{
	return qmp_message_parse(m, line, strlen(line), NULL);
}

Test(qmp_message, knows_the_four_kinds)
{
	struct qmp_message m;

	cr_assert_eq(parse(&m, GREETING), 0);
	cr_assert_eq(m.kind, QMP_GREETING);
	qmp_message_finish(&m);
	cr_assert_eq(parse(&m, "{\"return\": {\"status\": \"paused\"}}"), 0);
	cr_assert(m.kind == QMP_RETURN && !m.has_id && cJSON_IsObject(m.content));
	qmp_message_finish(&m);
	cr_assert_eq(parse(&m, "{\"id\": 8, \"error\": {\"class\": \"GenericError\", \"desc\": \"no \\\"fd\\\"\"}}"), 0);
	cr_assert(m.kind == QMP_ERROR && m.has_id);
	cr_assert_str_eq(m.text, "no \"fd\"");
	qmp_message_finish(&m);
	cr_assert_eq(parse(&m, "{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 1}}"), 0);
	cr_assert(m.kind == QMP_EVENT && !m.content && !m.has_id);
	cr_assert_str_eq(m.name, "STOP");
	qmp_message_finish(&m);
}

Test(qmp_message, refuses_garbage)
{
	static const char *const lines[] = {
		"", "x", "{", "{}", "[]", "1", "null", "\"QMP\"", "{\"QMP\": 1}", "{\"event\": 1}", "{\"event\": \"X\", \"data\": []}", "{\"error\": {}}",
		"{\"error\": {\"desc\": 1}}", "{\"return\": {}} {}", "{\"return\": {}}x", "{\"a\":1", "{\"a\"", "\"\\",
	};
	struct qmp_message m;

	for (size_t i = 0; i < ARRAY_LEN(lines); i++)
		cr_assert_eq(parse(&m, lines[i]), -EINVAL, "%s", lines[i]);
	cr_assert_eq(qmp_message_parse(&m, "{\"return\":\0{}}", 14, NULL), -EINVAL);
}

Test(qmp_message, bounds_length_and_depth)
{
	static char line[QMP_LINE_MAX + 2];
	struct qmp_message m;

	memset(line, ' ', sizeof line);
	cr_assert_eq(qmp_message_parse(&m, line, sizeof line, NULL), -EMSGSIZE);
	memset(line, '[', 1000);
	cr_assert_eq(qmp_message_parse(&m, line, 1000, NULL), -EMSGSIZE);
	cr_assert_eq(parse(&m, "{\"event\": \"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"}"), 0, "brackets in a string nest nothing");
	qmp_message_finish(&m);
}

/* --- the client, against a peer that says what the test tells it to --- */

struct scene {
	sd_event *event;
	struct qmp *qmp;
	int peer;
	char events[256];
	struct failure closed;
	int answers, errors;
	char text[1024];
};

static void on_event(const char *name, const cJSON *data, void *user)
{
	struct scene *s = user;
	size_t n = strlen(s->events);

	(void)data;
	snprintf(s->events + n, sizeof s->events - n, "%s ", name);
}

static void on_closed(const struct failure *why, void *user)
{
	struct scene *s = user;

	cr_assert_eq(s->closed.code, 0, "told once");
	s->closed = *why;
}

static const struct qmp_handler handler = { on_event, on_closed };

static void on_answer(const struct failure *why, const cJSON *result, void *user)
{
	struct scene *s = user;

	(void)result;
	s->answers++;
	if (!why)
		return;
	s->errors++;
	snprintf(s->text, sizeof s->text, "%s", why->text);
}

static void open_session(struct scene *s, bool again)
{
	int pair[2];

	*s = (struct scene){ 0 };
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	s->peer = pair[1];
	sd_event_new(&s->event);
	cr_assert_eq(qmp_create(&s->qmp, s->event, pair[0], again, &handler, s), 0);
}

static void open_scene(struct scene *s)
{
	open_session(s, false);
}

static void close_scene(struct scene *s)
{
	qmp_destroy(s->qmp);
	close_fd(&s->peer);
	sd_event_unref(s->event);
}

/* Until nothing is left to do. */
static void settle(struct scene *s)
{
	while (sd_event_run(s->event, 0) > 0)
		;
}

static void peer_says(struct scene *s, const char *text)
{
	cr_assert_eq(send(s->peer, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
	settle(s);
}

static void peer_hears(struct scene *s, const char *text)
{
	char buf[4096];
	ssize_t n = recv(s->peer, buf, sizeof buf - 1, MSG_DONTWAIT);

	buf[n < 0 ? 0 : n] = '\0';
	cr_assert_str_eq(buf, text);
}

Test(qmp, negotiates_and_pairs_answers)
{
	struct scene s;

	open_scene(&s);
	cr_assert_eq(qmp_send(s.qmp, "stop", NULL, -1, on_answer, &s), 0);
	cr_assert_eq(qmp_send(s.qmp, "cont", "{\"a\":1}", -1, on_answer, &s), 0);
	settle(&s);
	peer_hears(&s, "");
	peer_says(&s, GREETING);
	peer_hears(&s, "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"stop\"}{\"execute\":\"cont\",\"arguments\":{\"a\":1}}");
	peer_says(&s, "{\"return\": {}}\n{\"event\": \"STOP\"}\n{\"return\": {}}\n{\"error\"");
	cr_assert_eq(s.answers, 1);
	peer_says(&s, ": {\"desc\": \"not now\"}}\n");
	cr_assert(s.answers == 2 && s.errors == 1);
	cr_assert_str_eq(s.text, "QEMU says: not now");
	cr_assert_str_eq(s.events, "STOP ");
	close_scene(&s);
}

/* What a former client had asked is answered before and behind the greeting, with and without ids: none of it is taken for an answer to this one. */
Test(qmp, passes_over_a_former_clients_answers)
{
	struct scene s;
	unsigned int id;
	char buf[256];

	open_session(&s, true);
	cr_assert_eq(qmp_send(s.qmp, "stop", NULL, -1, on_answer, &s), 0);
	peer_says(&s, "{\"return\": {}}\n" GREETING "{\"return\": {\"status\": \"x\"}}\n{\"error\": {\"desc\": \"old\"}, \"id\": \"x\"}\n{\"return\": {}, \"id\": 0}\n");
	buf[recv(s.peer, buf, sizeof buf - 1, MSG_DONTWAIT)] = '\0';
	cr_assert_eq(sscanf(buf, "{\"execute\":\"qmp_capabilities\",\"id\":%u}{\"execute\":\"stop\"}", &id), 1, "%s", buf);
	cr_assert_eq(s.answers, 0);
	snprintf(buf, sizeof buf, "{\"return\": {}, \"id\": %u}\n", id);
	peer_says(&s, buf);
	cr_assert_eq(s.answers, 0);
	peer_says(&s, "{\"return\": {}}\n");
	cr_assert(s.answers == 1 && !s.errors && !s.closed.code);
	peer_says(&s, "{\"return\": {}}\n"); /* from now on each has to be asked for */
	cr_assert_eq(s.closed.code, EPROTO);
	close_scene(&s);
}

/* No former client had that many. */
Test(qmp, bounds_a_former_clients_answers)
{
	struct scene s;

	open_session(&s, true);
	peer_says(&s, GREETING);
	for (int i = 0; i < 100; i++)
		if (send(s.peer, "{\"return\": {}}\n", 15, MSG_NOSIGNAL) > 0)
			settle(&s);
	cr_assert_eq(s.closed.code, EPROTO);
	close_scene(&s);
}

Test(qmp, hands_over_a_descriptor)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char buf[1024];
	struct iovec iov = { buf, sizeof buf };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
	AUTO_CLOSE int fd = memfd_create("state", MFD_CLOEXEC);
	struct stat a, b;
	struct scene s;
	int got;

	open_scene(&s);
	qmp_send(s.qmp, "getfd", "{\"fdname\":\"x\"}", fd, on_answer, &s);
	peer_says(&s, GREETING);
	/* A message with a descriptor is a boundary of its own. */
	cr_assert_gt(recvmsg(s.peer, &msg, 0), 0);
	if (!msg.msg_controllen) {
		msg.msg_controllen = sizeof control.bytes;
		cr_assert_gt(recvmsg(s.peer, &msg, 0), 0);
	}
	cr_assert_not_null(CMSG_FIRSTHDR(&msg));
	memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof got);
	fstat(fd, &a);
	fstat(got, &b);
	cr_assert_eq(a.st_ino, b.st_ino);
	close(got);
	close_scene(&s);
}

static void expect_end(const char *said, int code)
{
	struct scene s;

	open_scene(&s);
	peer_says(&s, said);
	cr_assert_eq(s.closed.code, code, "%s: %d %s", said, s.closed.code, s.closed.text);
	cr_assert_eq(qmp_send(s.qmp, "stop", NULL, -1, on_answer, &s), -ENOTCONN);
	cr_assert_not(qmp_connected(s.qmp));
	settle(&s);
	cr_assert_eq(s.answers, 0);
	close_scene(&s);
}

Test(qmp, ends_with_a_peer_out_of_order)
{
	expect_end("garbage\n", EPROTO);
	expect_end("{\"return\": {}}\n", EPROTO);
	expect_end(GREETING GREETING, EPROTO);
	expect_end(GREETING "{\"return\": {}, \"id\": 2}\n", EPROTO);
	expect_end(GREETING "{\"return\": {}, \"id\": \"x\"}\n", EPROTO);
	expect_end(GREETING "{\"return\": {}}\n{\"return\": {}}\n", EPROTO);
	expect_end(GREETING "\xff\xfe\n", EPROTO);
}

Test(qmp, ends_with_a_peer_that_closes)
{
	struct scene s;

	open_scene(&s);
	qmp_send(s.qmp, "stop", NULL, -1, on_answer, &s);
	peer_says(&s, GREETING "{\"return\": {}}\n{\"ret");
	cr_assert_eq(s.closed.code, 0);
	close_fd(&s.peer);
	settle(&s);
	cr_assert_eq(s.closed.code, ECONNRESET);
	cr_assert_eq(s.answers, 0);
	close_scene(&s);
}

Test(qmp, ends_with_an_endless_line)
{
	static char flood[4096];
	struct scene s;

	open_scene(&s);
	memset(flood, ' ', sizeof flood);
	for (int i = 0; i < 64 && !s.closed.code; i++) {
		(void)!send(s.peer, flood, sizeof flood, MSG_NOSIGNAL | MSG_DONTWAIT);
		settle(&s);
	}
	cr_assert_eq(s.closed.code, EPROTO);
	close_scene(&s);
}

Test(qmp, bounds_what_is_unanswered)
{
	struct scene s;
	int r = 0;

	open_scene(&s);
	for (int i = 0; i < 100 && r == 0; i++)
		r = qmp_send(s.qmp, "stop", NULL, -1, on_answer, &s);
	cr_assert_eq(r, -EBUSY);
	close_scene(&s);
}
