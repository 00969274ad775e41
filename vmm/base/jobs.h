/* SPDX-License-Identifier: Apache-2.0
 *
 * What may block or burns time runs here, so that the loop never does: a job owns what it was handed, runs on a thread of its own
 * and reports back through the loop. */
#ifndef FORKFS_BASE_JOBS_H
#define FORKFS_BASE_JOBS_H

#include <stdatomic.h>
#include <systemd/sd-event.h>

#include "vmm/base/list.h"

struct job {
	struct list link;
	void (*run)(struct job *);  /* on a worker: may block, touches nothing that the loop owns */
	void (*done)(struct job *); /* on the loop, exactly once; may free the job */
	atomic_bool cancelled;      /* set by the loop; a long run() looks at it and gives up with -ECANCELED */
};

struct jobs;

/* Jobs share threads, at most `threads` at a time; an idle one ends after a while. Returns 0 or a negative errno. */
int jobs_create(struct jobs **ret, sd_event *event, unsigned int threads);

/* Waits for the jobs that run, drops nothing: done() of every job submitted has been called when this returns. NULL is accepted. */
void jobs_destroy(struct jobs *jobs);

/* From any thread. Where not even one thread can be made the job runs here and now: slow beats lost. Its done() is called later all the same. */
void jobs_submit(struct jobs *jobs, struct job *job);

/* From any thread: has the loop call job->done(); there is no run(). */
void jobs_deliver(struct jobs *jobs, struct job *job);

#endif
