/* SPDX-License-Identifier: Apache-2.0
 *
 * STATE/events and STATE/events.old: the events, for the next daemon. A line each: the user's id, a tab, the event's line. Loop only. */
#ifndef FORKFS_EVENTS_FILE_H
#define FORKFS_EVENTS_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct events_file {
	int dir;        /* borrowed */
	int fd;         /* -1: none are written */
	uint64_t lines; /* that are in it */
	bool failing;   /* that has been logged */
	bool cut;       /* the last line has no end */
};

#define EVENTS_FILE_NONE ((struct events_file){ .dir = -1, .fd = -1 })

/* Calls `found` with each that a former daemon left, the oldest first; `line`, `len` bytes with its newline, is borrowed. From then on they are written to the directory `dir`. Returns 0 or a
 * negative errno. */
int events_file_open(struct events_file *f, int dir, void (*found)(uid_t uid, const char *line, size_t len, void *data), void *data);

/* Adds one; of the last `max` none is lost. What can't be written is missing for the next daemon. */
void events_file_add(struct events_file *f, uint64_t max, uid_t uid, const char *line);
void events_file_close(struct events_file *f);

/* Removes what there is, once it is closed. */
void events_file_remove(int dir);

#endif
