/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking a snapshot:
 *
 *     making (a worker: the directory and its files) → waiting (for an earlier capture) → arming (a worker) → pausing → saving (device state)
 *     → taking (a worker: marks the instant; where that can't be had, copies) → resuming → describing (a worker: snapshot.json) → done
 *
 * and the capture goes on by itself. A failure from pausing on still resumes a guest that ran before. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>

#include "vmm/base/io.h"
#include "vmm/capture.h"
#include "vmm/fork_private.h"
#include "vmm/snapshot.h"

enum step { MAKING, WAITING, ARMING, PAUSING, SAVING, TAKING, RESUMING, DESCRIBING };

struct shoot {
	struct job job;
	struct capture *capture;
	struct fork *fork;
	struct shot *shot;
	struct snapshot *snapshot; /* what comes of it */
	struct op *op;
	enum step step;
	uint64_t since, stopped;
	double stop_ms;
	bool was_running, failing, vm_gone;
	bool working; /* a worker has it */
	bool delta;   /* a private child's own pages are enough */
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
	snapshot_unref(s->snapshot);
	shot_let_go(s->shot, s->fork->all);
	fork_unref(s->fork);
	free(s);
}

static void tell(struct shoot *s)
{
	struct fork *f = s->fork;
	double ms = (double)(now_us() - s->since) / 1000;

	if (!s->failing) {
		f->all->metrics.snapshots++;
		metrics_observe(&f->all->metrics.snapshot_seconds, ms / 1000);
		if (s->was_running)
			metrics_observe(&f->all->metrics.stop_seconds, s->stop_ms / 1000);
		fork_event(f, (struct event_facts){ .what = "snapshot", .snapshot = s->shot->name, .ms = ms, .has_ms = true, .stop_ms = s->stop_ms });
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
	if (!failed && !s->was_running)
		f->saved = s->shot->serial;
	if (!failed)
		capture_go_on(s->capture, s->shot, s->snapshot);
	else if (s->capture)
		capture_cancel(s->capture);
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

static void work(struct shoot *s, enum step step, void (*run)(struct job *), void (*done)(struct job *))
{
	s->step = step;
	s->working = true;
	s->job.run = run;
	s->job.done = done;
	jobs_submit(s->fork->all->jobs, &s->job);
}

/* A worker is back. Returns whether all is well. */
static bool worked(struct shoot *s)
{
	s->working = false;
	if (s->job_why.code)
		remember(s, &s->job_why);
	s->job_why.code = 0;
	return !s->failing;
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

static int write_manifest(struct shoot *s, const struct text *json)
{
	AUTO_CLOSE int fd = openat(s->shot->dir, "snapshot.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : write_all(fd, json->data, json->len);

	return r < 0 ? fail_errno(&s->job_why, -r, "snapshot.json") : 0;
}

/* Of a live capture the file is not whole yet, and of a private child's never. */
static int take_memory(struct shoot *s, struct snapshot *snapshot)
{
	const struct fork *f = s->fork;
	struct stat st;
	int r = capture_source(s->capture, s->memory, &snapshot->memory, &s->job_why);

	if (r < 0)
		return r;
	/* As long as it isn't whole it becomes as large as the guest's. */
	if (fstat(capture_is_live(s->capture) && f->ram.kind == REGION_SHARED ? f->ram.fd : s->memory, &st) == 0)
		snapshot->memory_bytes = (uint64_t)st.st_blocks * 512;
	snapshot->dir = fcntl(s->shot->dir, F_DUPFD_CLOEXEC, 3);
	snapshot->key.serial = s->shot->serial;
	snapshot->delta = s->delta && capture_is_live(s->capture);
	if (snapshot->delta && (snapshot->pages = openat(s->shot->dir, "memory.bin", O_RDONLY | O_CLOEXEC)) < 0)
		return fail_errno(&s->job_why, errno, "memory.bin");
	atomic_store(&snapshot->pending, capture_is_live(s->capture));
	if (snapshot->delta) {
		snapshot->template = template_ref(f->origin->template);
		r = template_keep(snapshot->template, &s->job_why);
		snapshot->keeps = r == 0;
		return r;
	}
	snapshot->file = openat(s->shot->dir, "memory.bin", O_RDONLY | O_CLOEXEC);
	if (snapshot->file < 0)
		return fail_errno(&s->job_why, errno, "memory.bin");
	return capture_is_live(s->capture) ? 0 : template_wrap(&snapshot->template, snapshot->file, f->ram.size, &s->job_why);
}

static int describe(struct shoot *s, const char *state, size_t n)
{
	AUTO_TEXT struct text json = { 0 };
	struct snapshot *snapshot;
	int r;

	fill_recipe(s, state, n);
	recipe_print(&s->shot->recipe, &json);
	if (json.failed)
		return fail(&s->job_why, ENOMEM, "no memory for snapshot.json");
	r = write_manifest(s, &json);
	if (r == 0)
		r = snapshot_create(&snapshot, &s->shot->recipe, state, n, &s->job_why);
	if (r < 0)
		return r;
	s->snapshot = snapshot;
	return take_memory(s, snapshot);
}

static void describe_run(struct job *job)
{
	struct shoot *s = container_of(job, struct shoot, job);
	AUTO_FREE char *state = NULL;
	size_t n;
	int r = read_file(s->vmstate, SNAPSHOT_VMSTATE_MAX, &state, &n);

	if (r < 0)
		fail_errno(&s->job_why, -r, "its vmstate can't be read again");
	else
		describe(s, state, n);
}

static void describe_done(struct job *job)
{
	struct shoot *s = container_of(job, struct shoot, job);
	struct failure why;

	if (worked(s) && shot_publish(s->shot, s->fork, s->snapshot) < 0) {
		fail(&why, ENOMEM, "no memory");
		remember(s, &why);
	}
	if (!s->failing)
		s->shot->snapshot = snapshot_ref(s->snapshot);
	shoot_finish(s);
}

/* The guest went on, or never ran. */
static void shoot_resumed(struct shoot *s)
{
	if (s->was_running && s->stopped)
		s->stop_ms = (double)(now_us() - s->stopped) / 1000;
	if (s->failing)
		shoot_finish(s);
	else
		work(s, DESCRIBING, describe_run, describe_done);
}

/* The guest goes on if it ran before. */
static void shoot_resume(struct shoot *s)
{
	struct fork *f = s->fork;

	if (s->vm_gone || !s->was_running || s->step < PAUSING) {
		shoot_resumed(s);
		return;
	}
	s->step = RESUMING;
	fork_request(f, f->driver->resume);
}

static void take_run(struct job *job)
{
	struct shoot *s = container_of(job, struct shoot, job);

	capture_take(s->capture, s->memory, &s->job.cancelled, &s->job_why);
}

static void take_done(struct job *job)
{
	struct shoot *s = container_of(job, struct shoot, job);

	worked(s);
	shoot_resume(s);
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
	if (s->step == RESUMING) {
		shoot_resumed(s);
	} else if (s->failing) {
		shoot_resume(s);
	} else if (s->step == PAUSING) {
		s->step = SAVING;
		fork_request(f, save);
	} else {
		work(s, TAKING, take_run, take_done);
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
	atomic_store(&s->job.cancelled, true);
	if (!s->working)
		shoot_finish(s);
}

static void shoot_removed(struct fork *f)
{
	struct shoot *s = f->task_data;
	struct failure why;

	fail(&why, ENOENT, "the fork was removed meanwhile");
	remember(s, &why);
	atomic_store(&s->job.cancelled, true);
	if (!s->vm_gone)
		fork_kill(f);
}

static void shoot_cancel(struct op *op)
{
	struct shoot *s = op->runner;
	struct failure why;

	fail(&why, ECANCELED, "the writer was told to end");
	remember(s, &why);
	atomic_store(&s->job.cancelled, true);
	if (s->step == WAITING)
		shoot_finish(s);
}

static void arm_run(struct job *job)
{
	struct shoot *s = container_of(job, struct shoot, job);

	capture_arm(s->capture, s->memory, s->delta);
}

/* One that can't be live is none where live was asked for by name. */
static bool check_live(struct shoot *s)
{
	struct fork *f = s->fork;
	struct failure why;

	if (capture_is_live(s->capture))
		return true;
	if (!f->not_live[0])
		snprintf(f->not_live, sizeof f->not_live, "%s", s->capture->why.text);
	if (strcmp(config_get(&f->config, CONFIG_SNAPSHOT), "live"))
		return true;
	fail(&why, EOPNOTSUPP, "it can't be live, as config/snapshot has it: %.400s", f->not_live);
	remember(s, &why);
	return false;
}

static void arm_done(struct job *job)
{
	struct shoot *s = container_of(job, struct shoot, job);
	struct fork *f = s->fork;

	if (!worked(s) || !check_live(s)) {
		shoot_resume(s);
		return;
	}
	if (f->driver->expect_save)
		f->driver->expect_save(f->vm, s->vmstate);
	s->step = PAUSING;
	s->stopped = now_us();
	fork_request(f, f->driver->pause);
}

/* Only one capture of a guest can be under way. */
static void begin(struct shoot *s)
{
	struct fork *f = s->fork;
	struct failure why;

	if (f->capture) {
		s->step = WAITING;
		return;
	}
	s->capture = capture_create(f);
	if (s->capture) {
		work(s, ARMING, arm_run, arm_done);
		return;
	}
	fail(&why, ENOMEM, "no memory for a capture");
	remember(s, &why);
	shoot_finish(s);
}

static void shoot_captured(struct fork *f)
{
	struct shoot *s = f->task_data;

	if (s->step == WAITING && !s->failing && !s->vm_gone)
		begin(s);
}

static const struct task shoot_task = {
	.name = "a snapshot",
	.answered = shoot_answered,
	.exited = shoot_exited,
	.captured = shoot_captured,
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

	if (worked(s))
		begin(s);
	else
		shoot_finish(s);
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
	if (f->vm->has_disk)
		return fail(why, EOPNOTSUPP, "fork %s: its guest writes a disk of its own, which a snapshot doesn't hold: its children would find another one", f->id);
	return 0;
}

/* A snapshot in memory shares what its fork shares; one on a disk is whole. */
static void shoot_begin(struct shoot *s, struct fork *f, struct shot *shot, struct op *op)
{
	const char *place = config_get(&f->all->config, CONFIG_SNAPSHOT_DIR);
	bool in_memory = !strcmp(place, "memory");

	snprintf(s->place, sizeof s->place, "%s", in_memory ? f->all->memory_path : place);
	s->delta = in_memory && f->origin && f->origin->template;
	s->fork = fork_ref(f);
	s->shot = shot_hold(shot);
	s->op = op;
	s->since = now_us();
	s->was_running = f->state == FORK_RUNNING;
	s->memory = s->vmstate = -1;
	list_append(&f->shots, &shot->link);
	if (asprintf(&shot->path, "%s/%s", s->place, shot->file) < 0)
		shot->path = NULL;
	fork_dir_write(f); /* a successor finds what is half done */
	op->cancel = shoot_cancel;
	op->runner = s;
	work(s, MAKING, make_run, make_done);
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
