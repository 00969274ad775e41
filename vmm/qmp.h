/* SPDX-License-Identifier: Apache-2.0
 *
 * A client of the QEMU Machine Protocol on the loop. The peer may be hostile: its memory is bounded, and the first thing that is not in order
 * ends the connection. */
#ifndef FORKFS_QMP_H
#define FORKFS_QMP_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

#include "vmm/base/failure.h"

struct qmp;

/* None of these may destroy the client. */
struct qmp_handler {
	/* `data` may be NULL. Lives until the return. */
	void (*event)(const char *name, const cJSON *data, void *user);
	/* Once: the peer closed (ECONNRESET) or broke the protocol (EPROTO). Commands that are not answered yet never will be. */
	void (*closed)(const struct failure *why, void *user);
};

/* `why` NULL: done, `result` lives until the return. Else EIO and QEMU's own sentence. */
typedef void (*qmp_answer)(const struct failure *why, const cJSON *result, void *user);

/* Takes `fd`, a connected stream socket, also on failure. Leaves the negotiation mode by itself. `user` goes to the handler. `again`: there was another client, and QEMU may still answer
 * what that had asked: such answers are passed over. Returns 0 or a negative errno. */
int qmp_create(struct qmp **ret, sd_event *event, int fd, bool again, const struct qmp_handler *handler, void *user);

/* NULL is accepted. */
void qmp_destroy(struct qmp *q);

/* false after closed(). */
bool qmp_connected(const struct qmp *q);

/* Queues a command; `arguments` is a JSON object as text or NULL; `fd` goes along with it (a duplicate: the caller keeps his), -1 none. Answers
 * come in the order of the commands. Returns 0, -ENOMEM, -EMFILE, -ENOTCONN after the end, -EBUSY too many unanswered. */
int qmp_send(struct qmp *q, const char *command, const char *arguments, int fd, qmp_answer answer, void *user);

#endif
