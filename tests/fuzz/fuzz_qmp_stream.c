/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <sys/socket.h>

#include "vmm/base/cleanup.h"
#include "vmm/qmp.h"

#define COMMANDS 4
#define PIECE 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned int answers, ends;

static void on_event(const char *name, const cJSON *data, void *user)
{
	(void)user;
	if (!name || (data && !cJSON_IsObject(data)))
		abort();
}

static void on_closed(const struct failure *why, void *user)
{
	(void)user;
	if (!why->code || !*why->text || ends++)
		abort();
}

static void on_answer(const struct failure *why, const cJSON *result, void *user)
{
	(void)user;
	(void)result;
	if (ends || ++answers > COMMANDS || (why && why->code != EIO))
		abort();
}

static const struct qmp_handler handler = { on_event, on_closed };

static void settle(sd_event *event)
{
	while (sd_event_run(event, 0) > 0)
		;
}

/* The first byte is how much of the rest comes at a time, as a peer may cut it; then the peer closes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static sd_event *event;
	size_t piece = size ? 1 + data[0] * PIECE : 1;
	struct qmp *q;
	int pair[2];

	if ((!event && sd_event_new(&event) < 0) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		abort();
	answers = ends = 0;
	if (qmp_create(&q, event, pair[0], size & 1, &handler, NULL) < 0)
		abort();
	for (int i = 0; i < COMMANDS; i++)
		qmp_send(q, "stop", NULL, -1, on_answer, NULL);
	for (size_t at = 1; at < size && !ends; at += piece) {
		(void)!send(pair[1], data + at, size - at < piece ? size - at : piece, MSG_NOSIGNAL | MSG_DONTWAIT);
		settle(event);
	}
	close_fd(&pair[1]);
	settle(event);
	if (ends != 1 || qmp_connected(q))
		abort();
	qmp_destroy(q);
	return 0;
}
