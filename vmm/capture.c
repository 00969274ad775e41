/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/capture.h"

#include "vmm/memory/copy.h"

static void copy_run(struct job *job)
{
	struct capture *c = container_of(job, struct capture, job);
	struct region_view view;

	if (region_view_open(&view, c->region, c->region->kind == REGION_SHARED ? 0 : c->pid, &c->why) < 0)
		return;
	memory_save(c->memory, &view, &c->job.cancelled, NULL, &c->why);
	region_view_finish(&view);
}

static void copy_done(struct job *job)
{
	struct capture *c = container_of(job, struct capture, job);

	if (c->why.code) {
		c->captured(c, &c->why);
		return;
	}
	c->may_run(c);
	c->captured(c, NULL);
}

void capture_begin(struct capture *c, struct jobs *jobs)
{
	c->job.run = copy_run;
	c->job.done = copy_done;
	atomic_store(&c->job.cancelled, false);
	jobs_submit(jobs, &c->job);
}

void capture_cancel(struct capture *c)
{
	atomic_store(&c->job.cancelled, true);
}
