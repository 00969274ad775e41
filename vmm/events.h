/* SPDX-License-Identifier: Apache-2.0
 *
 * What happened to the forks: one JSON object a line, the last few thousand kept. Every event belongs to a user; a reader sees those of one user or
 * all. Loop only. */
#ifndef FORKFS_EVENTS_H
#define FORKFS_EVENTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/base/signal.h"
#include "vmm/events_file.h"

#define EVENTS_ALL ((uid_t)-1) /* as a reader: everybody's */

struct event {
	uint64_t number;
	uid_t uid;
	size_t len;
	char *line; /* with its newline */
};

struct events {
	struct event *ring;
	size_t count, size; /* kept, and room */
	uint64_t next;      /* the number of the next one */
	struct events_file file;
	struct list grown;
};

/* Where a reader that follows stands. */
struct events_cursor {
	uint64_t number;
	size_t within; /* bytes of that line already given */
};

void events_init(struct events *e);
void events_finish(struct events *e);

/* Takes those that a former daemon left in the directory `state`, `max` at most; from now on they are left there, too. Returns 0 or a negative errno. */
int events_keep(struct events *e, int state, uint64_t max);

struct event_step {
	const char *name;
	double ms;
};

/* What an event tells beside its time. Zero or NULL fields are left out. */
struct event_facts {
	const char *fork;
	const char *what;     /* "created", "running", "failed", … */
	const char *snapshot; /* a path or a name */
	const char *from;     /* the fork's former name */
	const char *error;
	int code;             /* errno, told by its name */
	double ms;            /* how long it took */
	bool has_ms;
	double stop_ms;       /* how long the guest stood still; 0 left out */
	const struct event_step *steps; /* where the time went, ended by one without a name; NULL left out */
};

/* Adds one; when more than `max` are kept the older half goes. An event that there is no memory for is lost, and that is logged. */
void events_add(struct events *e, uint64_t max, uid_t uid, const struct event_facts *facts);

uint64_t events_size(const struct events *e, uid_t reader);

/* As pread(2) on what the reader sees. Returns bytes. */
size_t events_read(const struct events *e, uid_t reader, char *buf, size_t n, uint64_t offset);

/* The next bytes for one who follows: moves the cursor. Returns bytes, 0 when there is nothing new. */
size_t events_follow(const struct events *e, uid_t reader, struct events_cursor *at, char *buf, size_t n);

#endif
