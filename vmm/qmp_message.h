/* SPDX-License-Identifier: Apache-2.0
 *
 * One line of the QEMU Machine Protocol (QEMU's docs/interop/qmp-spec.txt), from a VMM that a guest may have taken over. */
#ifndef FORKFS_QMP_MESSAGE_H
#define FORKFS_QMP_MESSAGE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/failure.h"

#define QMP_LINE_MAX (64u << 10) /* bytes; the longest that QEMU answers to our commands has a few hundred */
#define QMP_NESTING_MAX 32

enum qmp_kind { QMP_GREETING, QMP_RETURN, QMP_ERROR, QMP_EVENT };

struct qmp_message {
	enum qmp_kind kind;
	bool has_id;          /* it answers a command that had one */
	double id;            /* where that is a number, else 0 */
	char name[64];        /* the event's */
	char text[512];       /* the error's description */
	cJSON *json;          /* the whole line, owned */
	const cJSON *content; /* in it: what was returned, or the event's data; may be NULL */
};

/* Reads a line of `n` bytes without its newline. Returns 0; -EINVAL with a sentence: it is no message; -EMSGSIZE too long or too deep; -ENOMEM.
 * *ret is untouched on failure, else qmp_message_finish() frees it. */
int qmp_message_parse(struct qmp_message *ret, const char *line, size_t n, struct failure *why);
void qmp_message_finish(struct qmp_message *m);

#endif
