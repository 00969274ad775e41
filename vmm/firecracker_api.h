/* SPDX-License-Identifier: Apache-2.0
 *
 * Firecracker's HTTP API over its Unix socket (src/firecracker/swagger/firecracker.yaml of release 1.16): one request at a time. A body is sent whole and with its length,
 * never by "Expect:", for Firecracker reads nothing else. */
#ifndef FORKFS_FIRECRACKER_API_H
#define FORKFS_FIRECRACKER_API_H

#include <systemd/sd-event.h>

#include "vmm/base/failure.h"

#define FIRECRACKER_ANSWER_MAX (64u << 10) /* bytes of a body; a longer answer is none */

struct firecracker_api;

/* `why` NULL: it did. EIO: it refused, the sentence is its own. ECONNRESET: the connection broke before it answered. EPROTO: its answer is none. */
typedef void (*firecracker_answer)(const struct failure *why, void *data);

/* For the socket at `path`, which need not be there yet. Returns 0, -ENAMETOOLONG or another negative errno. */
int firecracker_api_create(struct firecracker_api **ret, sd_event *event, const char *path, struct failure *why);

/* What is under way is never answered. NULL is accepted. */
void firecracker_api_destroy(struct firecracker_api *api);

/* `method` and `target` are constants; `body` is JSON, copied. Returns 0 and answers on the loop, never from inside this; -EBUSY one is under way and another one waits behind it;
 * -ENOMEM. */
int firecracker_api_send(struct firecracker_api *api, const char *method, const char *target, const char *body, firecracker_answer to, void *data);

/* The other end has ended: what it answered before is told from inside this, and if that isn't all of an answer ECONNRESET is. */
void firecracker_api_flush(struct firecracker_api *api);

/* Sends one and waits for its answer, at most `ms` milliseconds. Returns the HTTP status, the body in `ret` (cut, with a NUL); or a negative errno. */
int firecracker_api_ask(const char *path, const char *method, const char *target, const char *body, char *ret, size_t n, long ms);

#endif
