/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking a snapshot:
 *
 *     making (a worker: the directory and its files) → pausing → saving (device state) → describing (a worker: snapshot.json) → capturing
 *     → resuming → done
 *
 * A failure from pausing on still resumes a guest that ran before. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>

#include "vmm/base/io.h"
#include "vmm/capture.h"
#include "vmm/fork_private.h"
#include "vmm/snapshot.h"

enum step { MAKING, PAUSING, SAVING, DESCRIBING, CAPTURING, RESUMING };

struct shoot {
	struct job job;
	struct capture capture;
	struct fork *fork;
	struct shot *shot;
	struct op *op;
	enum step step;
	uint64_t since;
	bool was_running, failing, vm_gone;
	struct failure why, job_why;
	char place[4097]; /* the directory of snapshots, made by the worker */
	int memory, vmstate;
	siginfo_t how; /* the VM's end, when vm_gone */
};

static void remember(struct shoot *s, const struct failure *why)
{
	if (s->failing)
		return;
	s->failing = true;
	s->why = *why;
	fail_within(&s->why, "snapshot %s of fork %s", s->shot->name, s->fork->id);
}

static void shoot_free(struct shoot *s)
{
	close_fd(&s->memory);
	close_fd(&s->vmstate);
	shot_unref(s->shot);
	fork_unref(s->fork);
	free(s);
}

static void tell(struct shoot *s)
{
	struct fork *f = s->fork;
	double ms = (double)(now_us() - s->since) / 1000;

	if (!s->failing) {
		s->shot->state = SHOT_COMPLETE;
		f->all->metrics.snapshots++;
		metrics_observe(&f->all->metrics.snapshot_seconds, ms / 1000);
		fork_event(f, (struct event_facts){ .what = "snapshot", .snapshot = s->shot->name, .ms = ms, .has_ms = true });
		return;
	}
	if (s->shot->fork)
		shot_drop(s->shot);
	if (f->removed)
		return;
	fork_set_error(f, &s->why);
	fork_event(f, (struct event_facts){ .what = "snapshot-failed", .snapshot = s->shot->name, .code = s->why.code, .error = s->why.text });
}

static void shoot_finish(struct shoot *s)
{
	struct failure why = s->why;
	struct op *op = s->op;
	bool failed = s->failing;
	struct fork *f = s->fork;

	if (op)
		op->cancel = NULL;
	tell(s);
	if (s->vm_gone) {
		f->task = NULL; /* with the VM gone there is nothing to wind up but what fork_vm_ended() does */
		f->task_data = NULL;
		fork_vm_ended(f, &s->how);
	} else {
		fork_idle(f);
	}
	if (!f->removed)
		fork_changed(f);
	shoot_free(s);
	if (op)
		op->done(op, failed ? &why : NULL, op->data);
}

/* The guest goes on if it ran before; then all is over. */
static void shoot_resume(struct shoot *s)
{
	struct fork *f = s->fork;

	if (s->vm_gone || !s->was_running) {
		shoot_finish(s);
		return;
	}
	s->step = RESUMING;
	fork_request(f, f->driver->resume);
}

static void shoot_failed(struct shoot *s, const struct failure *why)
{
	remember(s, why);
	shoot_resume(s);
}

static void on_may_run(struct capture *c)
{
	(void)c; /* captured() comes at the same time */
}

static void on_captured(struct capture *c, const struct failure *why)
{
	struct shoot *s = container_of(c, struct shoot, capture);

	if (why)
		remember(s, why);
	shoot_resume(s);
}

static void capture(struct shoot *s)
{
	struct fork *f = s->fork;

	s->step = CAPTURING;
	s->capture.region = &f->ram;
	s->capture.pid = f->vm->process.pid;
	s->capture.memory = s->memory;
	s->capture.may_run = on_may_run;
	s->capture.captured = on_captured;
	capture_begin(&s->capture, f->all->jobs);
}

static void fill_recipe(struct shoot *s, const char *state, size_t n)
{
	struct recipe *r = &s->shot->recipe;
	sd_id128_t id = { 0 };
	struct tm tm;

	sd_id128_randomize(&id);
	snprintf(r->memory.file, sizeof r->memory.file, "memory.bin");
	snprintf(r->memory.identity, sizeof r->memory.identity, SD_ID128_UUID_FORMAT_STR, SD_ID128_FORMAT_VAL(id));
	r->memory.size = r->ram_size;
	snprintf(r->vmstate.file, sizeof r->vmstate.file, "vmstate");
	r->vmstate.size = n;
	r->vmstate.crc64 = crc64_jones(0, state, n);
	r->vmstate.has_crc64 = true;
	gmtime_r(&s->shot->made.tv_sec, &tm);
	strftime(r->created, sizeof r->created, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static int write_manifest(struct shoot *s)
{
	const struct text *json = &s->shot->manifest;
	AUTO_CLOSE int fd = openat(s->shot->dir, "snapshot.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : write_all(fd, json->data, json->len);

	return r < 0 ? fail_errno(&s->job_why, -r, "snapshot.json") : 0;
}

static void describe_run(struct job *job)
{
	struct shoot *s = container_of(job, struct shoot, job);
	AUTO_FREE char *state = NULL;
	size_t n;
	int r = read_file(s->vmstate, SNAPSHOT_VMSTATE_MAX, &state, &n);

	if (r < 0) {
		fail_errno(&s->job_why, -r, "its vmstate can't be read again");
		return;
	}
	fill_recipe(s, state, n);
	recipe_print(&s->shot->recipe, &s->shot->manifest);
	if (s->shot->manifest.failed)
		fail(&s->job_why, ENOMEM, "no memory for snapshot.json");
	else
		write_manifest(s);
}

static void describe_done(struct job *job)
{
	struct shoot *s = container_of(job, struct shoot, job);

	if (s->job_why.code)
		shoot_failed(s, &s->job_why);
	else if (s->failing)
		shoot_resume(s);
	else
		capture(s);
}

static void describe(struct shoot *s)
{
	s->step = DESCRIBING;
	s->job.run = describe_run;
	s->job.done = describe_done;
	jobs_submit(s->fork->all->jobs, &s->job);
}

static void save(struct vm *vm)
{
	struct fork *f = vm->data;
	struct shoot *s = f->task_data;

	f->driver->save(vm, s->vmstate);
}

static void shoot_answered(struct fork *f, const struct failure *why)
{
	struct shoot *s = f->task_data;

	if (why)
		remember(s, why);
	if (s->step == RESUMING)
		shoot_finish(s);
	else if (s->failing)
		shoot_resume(s);
	else if (s->step == PAUSING) {
		s->step = SAVING;
		fork_request(f, save);
	} else {
		describe(s);
	}
}

/* While a worker has the fork's memory its end waits for that. */
static void shoot_exited(struct fork *f, const siginfo_t *how)
{
	struct shoot *s = f->task_data;
	struct failure why;

	fail(&why, EIO, "the VMM %s", f->exit);
	remember(s, &why);
	s->vm_gone = true;
	s->how = *how;
	if (s->step == CAPTURING)
		capture_cancel(&s->capture);
	else if (s->step != MAKING && s->step != DESCRIBING)
		shoot_finish(s);
}

static void shoot_removed(struct fork *f)
{
	struct shoot *s = f->task_data;
	struct failure why;

	fail(&why, ENOENT, "the fork was removed meanwhile");
	remember(s, &why);
	if (s->step == CAPTURING)
		capture_cancel(&s->capture);
	if (!s->vm_gone)
		f->driver->kill(f->vm);
}

static void shoot_cancel(struct op *op)
{
	struct shoot *s = op->runner;
	struct failure why;

	fail(&why, ECANCELED, "the writer was told to end");
	remember(s, &why);
	if (s->step == CAPTURING)
		capture_cancel(&s->capture);
}

static const struct task shoot_task = {
	.name = "a snapshot",
	.answered = shoot_answered,
	.exited = shoot_exited,
	.removed = shoot_removed,
};

static int make_file(struct shoot *s, const char *name)
{
	int fd = openat(s->shot->dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 ? fail_errno(&s->job_why, errno, "%s/%s/%s", s->place, s->shot->file, name) : fd;
}

static void make_run(struct job *job)
{
	struct shoot *s = container_of(job, struct shoot, job);
	struct shot *shot = s->shot;

	shot->parent = open(s->place, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (shot->parent < 0 || mkdirat(shot->parent, shot->file, 0700)) {
		fail_errno(&s->job_why, errno, "%s/%s", s->place, shot->file);
		return;
	}
	shot->dir = openat(shot->parent, shot->file, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (shot->dir < 0) {
		fail_errno(&s->job_why, errno, "%s/%s", s->place, shot->file);
		return;
	}
	s->memory = make_file(s, "memory.bin");
	if (s->memory >= 0)
		s->vmstate = make_file(s, "vmstate");
}

static void make_done(struct job *job)
{
	struct shoot *s = container_of(job, struct shoot, job);
	struct fork *f = s->fork;

	if (s->job_why.code)
		remember(s, &s->job_why);
	if (s->failing) {
		s->was_running = false; /* it was not stopped either */
		shoot_resume(s);
		return;
	}
	s->step = PAUSING;
	fork_request(f, f->driver->pause);
}

static int new_shot(struct shot **ret, struct fork *f, const char *name)
{
	struct shot *s = calloc(1, sizeof *s);

	if (!s)
		return -ENOMEM;
	s->refs = 1;
	s->serial = f->all->next_serial++;
	s->fork = f;
	s->dir = s->parent = -1;
	s->recipe = f->recipe;
	clock_gettime(CLOCK_REALTIME, &s->made);
	snprintf(s->name, sizeof s->name, "%s", name);
	snprintf(s->file, sizeof s->file, "%s.%s.%llu", f->id, name, (unsigned long long)s->serial);
	*ret = s;
	return 0;
}

static int may_shoot(const struct fork *f, const char *name, struct failure *why)
{
	if (!fork_id_valid(name))
		return fail(why, EINVAL, "\"%s\" can't be a snapshot's name: [A-Za-z0-9][A-Za-z0-9._-]{0,63}", name);
	if (fork_shot(f, name))
		return fail(why, EEXIST, "fork %s has a snapshot %s already", f->id, name);
	if (!f->vm || (f->state != FORK_RUNNING && f->state != FORK_PAUSED))
		return fail(why, EBUSY, "fork %s: is %s: only a running or paused one can be snapshotted", f->id, fork_state_name(f->state));
	return 0;
}

static void shoot_begin(struct shoot *s, struct fork *f, struct shot *shot, struct op *op)
{
	const char *place = config_get(&f->all->config, CONFIG_SNAPSHOT_DIR);

	snprintf(s->place, sizeof s->place, "%s", strcmp(place, "memory") ? place : f->all->memory_path);
	s->fork = fork_ref(f);
	s->shot = shot_ref(shot);
	s->op = op;
	s->since = now_us();
	s->was_running = f->state == FORK_RUNNING;
	s->memory = s->vmstate = -1;
	list_append(&f->shots, &shot->link);
	op->cancel = shoot_cancel;
	op->runner = s;
	s->job.run = make_run;
	s->job.done = make_done;
	jobs_submit(f->all->jobs, &s->job);
}

int fork_shoot(struct fork *f, const char *name, struct op *op, struct failure *why)
{
	struct shoot *s = NULL;
	struct shot *shot = NULL;
	int r = may_shoot(f, name, why);

	if (r < 0)
		return r;
	s = calloc(1, sizeof *s);
	if (!s || new_shot(&shot, f, name) < 0) {
		free(s);
		return fail(why, ENOMEM, "snapshot %s of fork %s: no memory", name, f->id);
	}
	r = fork_begin(f, &shoot_task, s, why);
	if (r < 0) {
		shot_unref(shot);
		free(s);
		return r;
	}
	shoot_begin(s, f, shot, op);
	return 0;
}
