/* SPDX-License-Identifier: Apache-2.0
 *
 * A fork and its VM: requests with a bound, the end of the process, what is given back. */
#include <stdio.h>
#include <string.h>

#include "vmm/base/log.h"
#include "vmm/capture.h"
#include "vmm/cgroup.h"
#include "vmm/fork_private.h"
#include "vmm/learning.h"
#include "vmm/pool.h"

#define TURN_USEC 100000 /* as often as a VMM's own stops and resumes are told of: each is an event, and a record on a disk */

static int on_deadline(sd_event_source *source, uint64_t usec, void *data)
{
	struct fork *f = data;

	(void)source;
	(void)usec;
	f->timed_out = true;
	f->driver->kill(f->vm);
	return 0;
}

void fork_deadline_start(struct fork *f)
{
	uint64_t after = config_number(&f->config, CONFIG_TIMEOUT) * 1000;

	f->timed_out = false;
	f->deadline = sd_event_source_disable_unref(f->deadline);
	if (sd_event_add_time_relative(f->all->event, &f->deadline, CLOCK_MONOTONIC, after, 1000, on_deadline, f) < 0)
		log_warn("fork %s: no memory for a deadline: the VMM has no bound", f->id);
}

void fork_deadline_stop(struct fork *f)
{
	f->deadline = sd_event_source_disable_unref(f->deadline);
}

static void forget_turn(struct fork *f)
{
	f->turn = sd_event_source_disable_unref(f->turn);
}

void fork_request(struct fork *f, void (*request)(struct vm *))
{
	fork_deadline_start(f);
	request(f->vm);
}

static void on_answered(struct vm *vm, const struct failure *why, void *data)
{
	struct fork *f = data;
	struct failure late;

	(void)vm;
	fork_deadline_stop(f);
	forget_turn(f);
	if (why && f->timed_out) {
		fail(&late, ETIMEDOUT, "the VMM did not answer within %s ms", config_get(&f->config, CONFIG_TIMEOUT));
		why = &late;
	}
	if (f->task)
		f->task->answered(f, why);
}

static void on_busy(struct vm *vm, bool busy, void *data)
{
	(void)vm;
	if (busy)
		fork_deadline_stop(data);
	else
		fork_deadline_start(data);
}

static void on_exited(struct vm *vm, const siginfo_t *how, void *data)
{
	struct fork *f = data;

	(void)vm;
	fork_ref(f);
	fork_deadline_stop(f);
	if (f->stopping)
		snprintf(f->exit, sizeof f->exit, "was stopped");
	else
		process_exit_text(how, f->exit, sizeof f->exit);
	if (f->task)
		f->task->exited(f, how);
	else
		fork_vm_ended(f, how);
	fork_unref(f);
}

/* Whoever touches a page that can't be had waits for ever: better no guest than one that stands still or reads zeros. */
void fork_memory_broke(void *data, const struct failure *why)
{
	struct fork *f = data;

	snprintf(f->lost, sizeof f->lost, "%s", why->text);
	if (f->vm)
		f->driver->kill(f->vm);
}

void fork_kill(struct fork *f)
{
	if (f->capture && !f->capture->ending)
		f->kill_due = true;
	else
		f->driver->kill(f->vm);
}

void fork_capture_ended(struct fork *f)
{
	if (f->kill_due && f->vm)
		f->driver->kill(f->vm);
	f->kill_due = false;
	if (f->task && f->task->captured)
		f->task->captured(f);
}

static void on_typable(struct vm *vm, void *data)
{
	struct fork *f = data;

	(void)vm;
	signal_emit(&f->typable);
}

static void follow_turn(struct fork *f)
{
	if (f->task || (f->state != FORK_RUNNING && f->state != FORK_PAUSED))
		return;
	if ((f->state == FORK_RUNNING) == f->turned)
		return;
	fork_event(f, (struct event_facts){ .what = f->turned ? "running" : "paused" });
	fork_set_state(f, f->turned ? FORK_RUNNING : FORK_PAUSED);
}

static int on_turn(sd_event_source *source, uint64_t usec, void *data)
{
	struct fork *f = data;

	(void)source;
	(void)usec;
	forget_turn(f);
	follow_turn(f);
	return 0;
}

/* The first is followed at once, of those that come soon after it only the last. */
static void on_turned(struct vm *vm, bool running, void *data)
{
	struct fork *f = data;

	(void)vm;
	f->turned = running;
	if (f->turn)
		return;
	follow_turn(f);
	if (sd_event_add_time_relative(f->all->event, &f->turn, CLOCK_MONOTONIC, TURN_USEC, 1000, on_turn, f) < 0)
		f->turn = NULL;
}

const struct vm_watcher fork_watcher = {
	.answered = on_answered,
	.busy = on_busy,
	.exited = on_exited,
	.typable = on_typable,
	.turned = on_turned,
};

struct release {
	struct job job;
	struct region region;
};

static void release_run(struct job *job)
{
	region_finish(&container_of(job, struct release, job)->region);
}

static void release_done(struct job *job)
{
	free(container_of(job, struct release, job));
}

/* Freeing gigabytes takes a while: a worker's task. */
static void release_region(struct forks *all, struct region *region)
{
	struct release *r = region->kind == REGION_NONE ? NULL : calloc(1, sizeof *r);

	if (!r) {
		region_finish(region);
		return;
	}
	r->job.run = release_run;
	r->job.done = release_done;
	r->region = *region;
	*region = (struct region){ .fd = -1 };
	jobs_submit(all->jobs, &r->job);
}

struct ungroup {
	struct job job;
	char name[40];
};

static void ungroup_run(struct job *job)
{
	cgroup_remove(container_of(job, struct ungroup, job)->name);
}

static void ungroup_done(struct job *job)
{
	free(container_of(job, struct ungroup, job));
}

/* The kernel may need a moment: a worker's task. */
void group_remove(struct forks *all, char name[40])
{
	struct ungroup *u = *name ? calloc(1, sizeof *u) : NULL;

	if (!u)
		return; /* for want of memory it is left to the daemon's end */
	memcpy(u->name, name, sizeof u->name);
	*name = '\0';
	u->job.run = ungroup_run;
	u->job.done = ungroup_done;
	jobs_submit(all->jobs, &u->job);
}

void fork_release_vm(struct fork *f)
{
	if (!f->vm || !f->vm->left)
		group_remove(f->all, f->group);
	if (f->vm)
		f->driver->destroy(f->vm);
	f->vm = NULL;
	f->vm_uid = 0;
	fork_deadline_stop(f);
	forget_turn(f);
	record_refresh(&f->console);
	record_refresh(&f->log);
	release_region(f->all, &f->ram);
	learning_end(f);
	paging_unref(f->paging);
	f->paging = NULL;
	f->dirty_size = 0;
	origin_unref(f->origin);
	f->origin = NULL;
	f->lost[0] = '\0';
	signal_emit(&f->typable);
}

void fork_leave_vm(struct fork *f)
{
	if (f->vm)
		f->vm->left = true;
	fork_release_vm(f);
}

/* How one ended that another daemon started may be unknown: no failure, then. */
static bool clean_end(const struct fork *f, const siginfo_t *how)
{
	return f->stopping || !how->si_code || (how->si_code == CLD_EXITED && how->si_status == 0);
}

void fork_vm_ended(struct fork *f, const siginfo_t *how)
{
	bool clean = clean_end(f, how) && !f->lost[0];
	char lost[sizeof f->lost];
	struct failure why;

	memcpy(lost, f->lost, sizeof lost);
	fork_release_vm(f);
	if (f->removed) {
		fork_dispose(f);
		return;
	}
	if (clean) {
		fork_event(f, (struct event_facts){ .what = "exited" });
		fork_set_state(f, FORK_EXITED);
		return;
	}
	if (lost[0])
		fail(&why, EIO, "fork %s: the guest was ended, for its memory can't be had any more: %s", f->id, lost);
	else
		fail(&why, EIO, "fork %s: the VMM %s %s", f->id, f->exit, f->timed_out ? "by the daemon: it did not answer" : "while the guest was running");
	fork_set_error(f, &why);
	fork_event(f, (struct event_facts){ .what = "failed", .code = EIO, .error = why.text });
	fork_set_state(f, FORK_FAILED);
}

static bool uid_in_use(const struct forks *all, uid_t uid)
{
	struct fork *f;

	list_for_each(f, &all->list, link)
		if (f->vm_uid == uid)
			return true;
	list_for_each(f, &all->leaving, link)
		if (f->vm_uid == uid)
			return true;
	return pool_has_uid(all->pool, uid);
}

uid_t fork_take_uid(struct forks *all)
{
	uint32_t first, last;

	config_uids(&all->config, &first, &last);
	if (all->next_uid < first || all->next_uid > last)
		all->next_uid = first;
	for (uint32_t i = 0; i <= last - first; i++) {
		uid_t uid = all->next_uid;

		all->next_uid = uid == last ? first : uid + 1;
		if (!uid_in_use(all, uid))
			return uid;
	}
	return 0;
}

ssize_t fork_type(struct fork *f, const void *data, size_t n)
{
	if (!f->vm || f->removed || (f->state != FORK_RUNNING && f->state != FORK_PAUSED))
		return -EBUSY;
	return f->driver->type(f->vm, data, n);
}

uint64_t fork_memory(const struct fork *f)
{
	return region_bytes(&f->ram);
}
