/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/capture.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/log.h"
#include "vmm/fork_private.h"
#include "vmm/memory/copy.h"

static void capture_free(struct capture *c)
{
	paging_unref(c->paging);
	snapshot_unref(c->snapshot);
	shot_let_go(c->shot, c->all);
	fork_unref(c->fork);
	free(c);
}

static void tell_complete(struct capture *c)
{
	struct shot *s = c->shot;
	struct fork *f = c->fork;

	snapshot_settle(c->snapshot, c->result);
	s->state = c->result == 0 ? SHOT_COMPLETE : SHOT_FAILED;
	if (!s->fork) {
		if (!f->removed)
			fork_dir_write(f); /* a successor needn't finish it */
		return;
	}
	if (c->result == 0) {
		fork_event(f, (struct event_facts){ .what = "snapshot-complete", .snapshot = s->name });
	} else {
		snapshot_retract(s->serial);
		fail_within(&c->why, "snapshot %s of fork %s", s->name, f->id);
		if (f->state != FORK_FAILED)
			fork_set_error(f, &c->why); /* else what happened to the guest is said there */
		fork_event(f, (struct event_facts){ .what = "snapshot-failed", .snapshot = s->name, .code = c->why.code, .error = c->why.text });
	}
	fork_changed(f);
}

/* Tells a successor of the daemon that the file is whole: until then it may be written. */
static void mark_whole(const struct capture *c)
{
	if (c->shot->dir >= 0 && fchmodat(c->shot->dir, "memory.bin", 0400, 0))
		log_warn("the memory of a snapshot can't be marked as whole: %m");
}

/* A whole memory that doesn't change any more can be mapped by private children as it is. */
static void end_run(struct job *job)
{
	struct capture *c = container_of(job, struct capture, end);

	live_capture_destroy(c->live); /* the pager's thread tells nothing any more */
	if (c->cancelled && !c->over)
		c->result = fail(&c->why, ECANCELED, "it was called off");
	if (!c->snapshot)
		return;
	if (c->result == 0)
		mark_whole(c);
	if (c->result == 0 && !c->snapshot->delta && !c->snapshot->template)
		template_wrap(&c->snapshot->template, c->snapshot->file, c->snapshot->recipe.ram_size, &c->why);
	else if (c->result < 0 && c->shot->dir >= 0)
		unlinkat(c->shot->dir, "memory.bin", 0);
}

static void end_done(struct job *job)
{
	struct capture *c = container_of(job, struct capture, end);
	struct fork *f = c->fork;

	if (f->capture == c)
		f->capture = NULL;
	if (c->snapshot)
		tell_complete(c);
	fork_ref(f);
	capture_free(c);
	fork_capture_ended(f);
	fork_unref(f);
}

static void take_apart(struct capture *c)
{
	if (c->ending)
		return;
	c->ending = true;
	c->end.run = end_run;
	c->end.done = end_done;
	jobs_submit(c->all->jobs, &c->end);
}

static void on_news(struct job *job)
{
	struct capture *c = container_of(job, struct capture, news);

	c->over = true;
	if (c->snapshot)
		take_apart(c);
}

/* On the pager's thread. */
static void on_done(void *data, int result, const struct failure *why)
{
	struct capture *c = data;

	c->result = result;
	if (why)
		c->why = *why;
	jobs_deliver(c->all->jobs, &c->news);
}

/* The fork of one that was booted, or filled before it ran, has no pager yet. */
static int find_paging(struct fork *f, struct failure *why)
{
	struct paging_options o = { .jobs = f->all->jobs, .memory = &f->vm->memory, .size = f->ram.size };
	int r = f->paging ? 0 : paging_create(&f->paging, &o, why);

	if (r < 0)
		return r;
	paging_watch(f->paging, fork_memory_broke, f);
	if (f->vm->memory.noted) {
		f->vm->memory.noted = false; /* the capture takes the memory from it */
		fork_dir_write(f);
	}
	return 0;
}

struct capture *capture_create(struct fork *f)
{
	struct capture *c = calloc(1, sizeof *c);
	struct failure why;

	if (!c)
		return NULL;
	c->all = f->all;
	c->fork = fork_ref(f);
	c->news.done = on_news;
	c->stop = !strcmp(config_get(&f->config, CONFIG_SNAPSHOT), "stop");
	f->not_live[0] = '\0';
	if (c->stop)
		snprintf(f->not_live, sizeof f->not_live, "config/snapshot says so");
	else if (find_paging(f, &why) < 0)
		snprintf(f->not_live, sizeof f->not_live, "%s", why.text);
	if (f->paging)
		c->paging = paging_ref(f->paging);
	return c;
}

/* Where pages come from that are not in the region itself. */
static struct memory_source *source_under(const struct capture *c, bool delta)
{
	const struct fork *f = c->fork;

	if (f->ram.kind == REGION_SHARED)
		return c->paging && paging_is_lazy(c->paging) ? f->origin->memory : NULL;
	return delta && f->origin->template ? template_source(f->origin->template) : NULL;
}

static int arm(struct capture *c, int memory, bool delta, struct failure *why)
{
	struct live_capture_options o = { .file = memory, .done = on_done, .data = c };
	struct region_view view;
	int r = paging_protectable(c->paging, &o.region, why);

	if (r == 0)
		r = region_view_open(&view, &c->fork->ram, c->fork->ram.kind == REGION_SHARED ? 0 : c->fork->vm->process.pid, why);
	if (r < 0)
		return r;
	view.under = source_under(c, delta);
	o.view = &view;
	r = live_capture_arm(&c->live, &o, why);
	region_view_finish(&view);
	return r;
}

void capture_arm(struct capture *c, int memory, bool delta)
{
	if (c->paging && !c->stop && arm(c, memory, delta, &c->why) < 0)
		c->live = NULL;
}

static int copy(struct capture *c, int memory, const atomic_bool *cancelled, struct failure *why)
{
	struct region_view view;
	int r = region_view_open(&view, &c->fork->ram, c->fork->ram.kind == REGION_SHARED ? 0 : c->fork->vm->process.pid, why);

	if (r < 0)
		return r;
	view.under = source_under(c, false);
	r = memory_save(memory, &view, cancelled, NULL, why);
	region_view_finish(&view);
	return r;
}

/* What makes a live capture fail comes through its done(), on the pager's thread, before stop() returns. */
int capture_take(struct capture *c, int memory, const atomic_bool *cancelled, struct failure *why)
{
	int r;

	if (!c->live)
		return copy(c, memory, cancelled, why);
	r = live_capture_stop(c->live);
	if (r < 0)
		*why = c->why;
	return r;
}

int capture_source(struct capture *c, int memory, struct memory_source **ret, struct failure *why)
{
	int r;

	if (!c->live)
		return memory_source_create_file(ret, memory, c->fork->ram.size, NULL, why);
	r = live_capture_run(c->live);
	if (r < 0) {
		*why = c->why;
		return r;
	}
	*ret = live_capture_source(c->live);
	return 0;
}

void capture_go_on(struct capture *c, struct shot *shot, struct snapshot *snapshot)
{
	c->shot = shot_hold(shot);
	c->snapshot = snapshot_ref(snapshot);
	c->fork->capture = c;
	if (!c->live) {
		mark_whole(c);
		end_done(&c->end);
	} else if (c->over) {
		take_apart(c);
	}
}

void capture_cancel(struct capture *c)
{
	if (c->ending)
		return;
	c->cancelled = true;
	take_apart(c);
}

/* Nobody can come to it any more once it is retracted. The references that are left are the shot's and this one's. */
void capture_dropped(struct capture *c)
{
	if (atomic_load(&c->snapshot->refs) <= 2)
		capture_cancel(c);
}
