/* SPDX-License-Identifier: Apache-2.0
 *
 * Answering a process's opens of files (seccomp_unotify(2)): for a VMM that takes names where it should be given descriptors, and that nothing of ours can be loaded into.
 * Loop only. */
#ifndef FORKFS_OPENS_H
#define FORKFS_OPENS_H

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "vmm/base/jobs.h"

#define OPENS_PASS 1 /* the kernel opens it, as the process itself */
#define OPENS_WORK 2 /* a worker makes what it gets */

struct opens_work {
	/* On a worker: nobody waits for it any more when `cancelled`. Returns 0 and in *ret a descriptor, or a negative errno. */
	int (*run)(struct opens_work *w, const char *path, const atomic_bool *cancelled, int *ret);
	/* On the loop, once: `result` is run()'s. wanted: the process is about to have it; else it, or whoever answers, is gone. Frees it. */
	void (*done)(struct opens_work *w, int result, bool wanted);
};

struct opens_answer {
	int fd;
	struct opens_work *work;
};

struct opens {
	int fd; /* the listener, -1 none */
	sd_event_source *source;
	struct jobs *jobs;
	const int *beside; /* borrowed: two descriptors (-1: none) that the process gets as well, with the next descriptor that it gets; NULL: none */
	struct asked *asked; /* the one whose path is being read; NULL none */
	/* `path` as the process gave it, `flags` of open(2). Returns 0 and in ret->fd a descriptor that becomes its answer, ours to close; OPENS_WORK and what that is;
	 * OPENS_PASS; or a negative errno that the process gets. What is passed is opened by whatever name is there then: no border against a process that changes it
	 * meanwhile. */
	int (*answer)(const char *path, int flags, struct opens_answer *ret, void *data);
	void (*busy)(bool busy, void *data); /* a worker makes an answer now; it is there, or given up. May be NULL */
	void *data;
};

/* Takes `listener`, process_spec's, also on failure; answer and data are set already. A path is read by a worker: the memory that it is in may be such as the process
 * itself has to provide. Returns 0 or a negative errno. */
int opens_init(struct opens *o, sd_event *event, struct jobs *jobs, int listener);

/* Whoever waits, or comes yet, waits for another one that has the listener, or is refused. One that was never begun must have fd -1. */
void opens_finish(struct opens *o);

#endif
