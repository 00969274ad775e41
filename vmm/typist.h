/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection to a serial console, a socket's or the writing end of a pipe, for typing. What the console prints is recorded by the VMM and thrown away here. */
#ifndef FORKFS_TYPIST_H
#define FORKFS_TYPIST_H

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

struct typist {
	int fd; /* -1: the peer has closed */
	bool waiting;
	sd_event_source *source;
	void (*typable)(void *data);
	void *data;
};

/* Takes `fd`, connected and nonblocking, also on failure. Returns 0 or a negative errno. */
int typist_init(struct typist *t, sd_event *event, int fd, void (*typable)(void *data), void *data);

/* A zeroed one must have fd -1. */
void typist_finish(struct typist *t);

/* How many bytes went, at least 1; -EAGAIN: typable() will tell when; -EIO. */
ssize_t typist_type(struct typist *t, const void *data, size_t n);

#endif
