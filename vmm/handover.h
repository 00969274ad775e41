/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that is handed to a VMM after it has started. The VMM maps a memory of its own; over a socket that it inherited (SOCK_SEQPACKET) it is sent a descriptor,
 * maps that in the place of its own, private, and answers with an errno, an int of this machine. The side inside the VMM is handover_serve.h. */
#ifndef FORKFS_HANDOVER_H
#define FORKFS_HANDOVER_H

#include <systemd/sd-event.h>

#include "vmm/base/failure.h"

struct handover {
	int fd; /* our end, -1 none */
	sd_event_source *source;
	void (*answered)(int error, void *data); /* 0, or a negative errno: -EPIPE the VMM has ended */
	void *data;
};

/* Makes the pair; *ret_theirs is the end to inherit. Any thread. Returns 0 or a negative errno. */
int handover_pair(int *ret_ours, int *ret_theirs);

/* Takes over `ours`. Loop. Returns 0 or a negative errno, `ours` then closed. */
int handover_init(struct handover *h, sd_event *event, int ours, void (*answered)(int error, void *data), void *data);
void handover_finish(struct handover *h);

/* Tells the VMM that it gets a guest, with the descriptor `memory`, or -1: its own is what that guest needs; answered() follows. A VMM that was never told so ends when the
 * daemon does. Returns 0, or a negative errno and answered() doesn't follow. */
int handover_give(struct handover *h, int memory);

#endif
