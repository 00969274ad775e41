/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory between the daemon and a VMM that has started, over a socket that the VMM inherited (SOCK_SEQPACKET). Once the VMM has mapped its memory it says hello, with
 * userfaultfds for its own address space. It may be sent a descriptor then: it maps that in the place of its own memory, private, and answers with an errno, an
 * int of this machine. It keeps the descriptor open, as it does the userfaultfds: whoever takes over from a daemon that died finds all in the VMM. One that
 * is told to live goes on when the daemon dies, another one ends with it. The side inside the VMM is handover_serve.h. */
#ifndef FORKFS_HANDOVER_H
#define FORKFS_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "vmm/base/failure.h"
#include "vmm/vm_memory.h"

/* The VMM's first message; the userfaultfds that there are go with it, in this order. */
struct handover_hello {
	uint64_t at, size;   /* the mapping */
	uint64_t features;   /* of the first, for serving and capturing, UFFD_FEATURE_ bits */
	int32_t error;       /* why there is none, an errno, or 0 */
	int32_t notes_error; /* likewise of the second, which has UFFD_FEATURES_WRITTEN */
};

#define HANDOVER_UFFDS 2 /* at most */

/* The daemon's messages are one byte. */
#define HANDOVER_MAP 'm'  /* a descriptor goes with it */
#define HANDOVER_LIVE 'l' /* the descriptors that go with it are kept open, at most HANDOVER_KEPT */
#define HANDOVER_KEPT 2

struct handover {
	int fd; /* our end, -1 none */
	sd_event_source *source;
	bool greeted;
	void (*hello)(const struct vm_memory *memory, void *data); /* once, before answered(); what it owns is for whoever is told. NULL: the VMM never said it */
	void (*answered)(int error, void *data); /* 0, or a negative errno: -EPIPE the VMM has ended */
	void *data;
};

/* Makes the pair; *ret_theirs is the end to inherit. Any thread. Returns 0 or a negative errno. */
int handover_pair(int *ret_ours, int *ret_theirs);

/* What the VMM is to inherit so that it can make a userfaultfd without privilege: /dev/userfaultfd (Linux 6.1), or -1: it has to try the system call. */
int handover_uffd_device(void);

/* Takes over `ours`; the callbacks and data of *h are set already. Loop. Returns 0 or a negative errno, `ours` then closed. */
int handover_init(struct handover *h, sd_event *event, int ours);
void handover_finish(struct handover *h);

/* Gives the VMM a memory to map in the place of its own; answered() follows. Returns 0, or a negative errno and answered() doesn't follow. */
int handover_give(struct handover *h, int memory);

/* The VMM outlives the daemon from now on, and keeps duplicates of `n` descriptors for the next one (-1: none). Nothing is answered. Returns 0 or a negative errno. */
int handover_live(struct handover *h, const int *keep, size_t n);

#endif
