/* SPDX-License-Identifier: Apache-2.0
 *
 * A record: a file that a VMM appends to (its console, its log), of which the last bytes are kept. It is written by the VMM itself, so it is
 * whole also of the time when no daemon runs. What is dropped becomes a hole at its front: nothing that is being written is lost. */
#ifndef FORKFS_RECORD_H
#define FORKFS_RECORD_H

#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "vmm/base/signal.h"

struct record {
	int fd;                /* O_RDWR|O_APPEND; -1: there is none yet, it reads as empty */
	uint64_t start, end;   /* offsets in the file of what is kept; end - start is what a reader sees */
	uint64_t max;          /* bytes kept; beyond it the older half goes */
	sd_event_source *watch;
	struct list grown;     /* listeners: it grew, was cut or began anew */
};

void record_init(struct record *r, uint64_t max);

/* Takes over `fd` and begins anew with it, or, when `fd` has content, goes on with that. Returns 0 or a negative errno; fd is then closed. */
int record_open(struct record *r, sd_event *event, int fd);
void record_finish(struct record *r);

static inline uint64_t record_size(const struct record *r)
{
	return r->end - r->start;
}

/* Bytes from `offset` of what is kept: as pread(2). Returns bytes, 0 at the end, or a negative errno. */
ssize_t record_read(const struct record *r, void *buf, size_t n, uint64_t offset);

/* Looks at the file's size now instead of when the kernel tells. */
void record_refresh(struct record *r);

#endif
