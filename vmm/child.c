/* SPDX-License-Identifier: Apache-2.0
 *
 * One child of a launch: its records and memory, its VMM out of the pool or a new one, its end. */
#include <stdio.h>
#include <string.h>

#include "vmm/base/log.h"
#include "vmm/launch_private.h"
#include "vmm/memory/copy.h"

void child_finish(struct child *c)
{
	region_finish(&c->ram);
	region_finish(&c->over);
	close_fd(&c->console);
	close_fd(&c->log);
	close_fd(&c->vmstate);
	fork_unref(c->fork);
}

void child_ended(struct child *c)
{
	c->step = ENDED;
	c->launch->ended++;
}

void child_end(struct child *c)
{
	switch (c->step) {
	case WAITING:
		child_ended(c);
		break;
	case PREPARING:
		atomic_store(&c->job.cancelled, true);
		break;
	case STARTING:
	case LOADING:
	case LOADED:
	case RESUMING:
	case RUNNING:
		c->launch->active -= c->step == LOADING || c->step == STARTING;
		c->launch->running -= c->step == RUNNING;
		c->step = ENDING;
		c->fork->driver->kill(c->fork->vm);
		break;
	case ENDING:
	case ENDED:
		break;
	}
}

void child_load(struct child *c)
{
	struct vm_load load = { c->over.kind == REGION_NONE ? NULL : &c->over, c->vmstate };
	struct fork *f = c->fork;

	c->step = LOADING;
	fork_deadline_start(f);
	f->driver->load(f->vm, &load);
}

static int open_records(struct child *c)
{
	c->console = fork_dir_record(c->dir, "console.txt", c->vm_uid, &c->why);
	if (c->console < 0)
		return c->console;
	c->log = fork_dir_record(c->dir, "log.txt", 0, &c->why);
	return c->log < 0 ? c->log : 0;
}

/* What the pool's VMM brings along becomes the fork's. */
static int move_records(struct child *c)
{
	static const char *const names[] = { "qmp", "console", "console.txt", "log.txt" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (renameat(c->idle->dir, names[i], c->dir, names[i]) && errno != ENOENT)
			return fail_errno(&c->why, errno, "the waiting VMM's %s", names[i]);
	return 0;
}

static int own_memory(struct child *c)
{
	int r = c->idle ? move_records(c) : open_records(c);

	if (r < 0 || c->idle)
		return r;
	return region_create_shared(&c->ram, c->name, c->launch->source.recipe.ram_size, &c->why);
}

static int guest_memory(struct child *c)
{
	const struct source *s = &c->launch->source;

	if (s->region == REGION_FILE)
		return region_create_file(&c->over, s->template ? template_fd(s->template) : s->snapshot->memory, s->recipe.ram_size, &c->why);
	return memory_fill(c->idle ? c->idle->ram.fd : c->ram.fd, s->snapshot->memory, s->recipe.ram_size, &c->job.cancelled, NULL, &c->why);
}

static void prepare_run(struct job *job)
{
	struct child *c = container_of(job, struct child, job);
	const struct source *s = &c->launch->source;

	if (own_memory(c) < 0 || s->boot || guest_memory(c) < 0)
		return;
	c->vmstate = snapshot_vmstate(s->snapshot);
	if (c->vmstate < 0)
		fail_errno(&c->why, -c->vmstate, "vmstate");
}

static struct vm_spec make_spec(struct child *c)
{
	const struct source *s = &c->launch->source;
	struct fork *f = c->fork;

	return (struct vm_spec){
		.event = f->all->event,
		.jobs = f->all->jobs,
		.id = f->id,
		.binary = s->facts.binary,
		.dir = f->dir,
		.recipe = &f->recipe,
		.ram = &c->ram,
		.drop = f->all->root,
		.uid = f->vm_uid,
		.gid = f->vm_uid,
		.netns = f->all->netns,
		.console = f->console.fd,
		.log = f->log.fd,
		.kernel = s->kernel,
		.initrd = s->initrd,
		.args = s->args ?: "",
	};
}

static int watch_records(struct child *c, struct failure *why)
{
	struct fork *f = c->fork;
	int r = record_open(&f->console, f->all->event, c->idle ? steal_fd(&c->idle->console) : steal_fd(&c->console));

	if (r == 0)
		r = record_open(&f->log, f->all->event, c->idle ? steal_fd(&c->idle->log) : steal_fd(&c->log));
	return r < 0 ? fail_errno(why, -r, "its console or log can't be watched") : 0;
}

void child_take_memory(struct child *c)
{
	const struct source *s = &c->launch->source;
	struct fork *f = c->fork;
	struct region *own = c->idle ? &c->idle->ram : &c->ram;

	snprintf(f->ram_name, sizeof f->ram_name, "%s", c->idle ? c->idle->name : c->name);
	snprintf(f->backend, sizeof f->backend, "%s", s->backend);
	f->template = s->template ? template_ref(s->template) : NULL;
	if (c->over.kind == REGION_NONE) {
		f->ram = *own;
		*own = (struct region){ .fd = -1 };
	} else if (region_create_file(&f->ram, c->over.fd, c->over.size, NULL) < 0) {
		log_warn("fork %s: its memory can't be looked at: no descriptor is left", f->id);
	}
}

/* The fork takes over what the worker made. */
static int hand_over(struct child *c, struct failure *why)
{
	struct source *s = &c->launch->source;
	struct fork *f = c->fork;
	int r = watch_records(c, why);

	if (r < 0)
		return r;
	f->vm_uid = c->vm_uid;
	f->driver = s->driver;
	f->recipe = s->recipe;
	f->from_boot = s->boot;
	snprintf(f->snapshot, sizeof f->snapshot, "%s", s->boot ? "" : s->path);
	return 0;
}

/* The pool's VMM answers to the fork from now on. */
static void child_adopt(struct child *c)
{
	struct fork *f = c->fork;

	child_take_memory(c);
	f->vm = c->idle->vm;
	f->vm->watcher = &fork_watcher;
	f->vm->data = f;
	pool_release(c->idle);
	c->idle = NULL;
	child_load(c);
}

static int child_spawn(struct child *c, struct failure *why)
{
	struct fork *f = c->fork;
	struct vm_spec spec = make_spec(c);
	int r = f->driver->start(&f->vm, &spec, &fork_watcher, f, why);

	if (r < 0)
		return r;
	c->step = STARTING;
	fork_deadline_start(f);
	return 0;
}

static void child_start(struct child *c)
{
	struct launch *l = c->launch;
	struct failure why;
	int r = hand_over(c, &why);

	l->active++;
	if (r == 0 && c->idle) {
		child_adopt(c);
		return;
	}
	if (r == 0)
		r = child_spawn(c, &why);
	if (r == 0)
		return;
	l->active--;
	fork_release_vm(c->fork);
	child_ended(c); /* it has no process to wait for */
	launch_fail(l, c, &why);
}

static void prepare_finish(struct child *c)
{
	struct launch *l = c->launch;
	bool dead = c->idle && c->idle->dead;

	l->active--;
	if (c->idle && (dead || l->failing || c->why.code)) {
		pool_discard(c->idle);
		c->idle = NULL;
	}
	if (l->failing) {
		child_ended(c);
	} else if (c->why.code) {
		child_ended(c);
		launch_fail(l, c, &c->why);
	} else if (dead) {
		c->no_pool = true;
		region_finish(&c->over);
		close_fd(&c->vmstate);
		child_prepare(c);
	} else {
		child_start(c);
	}
}

static void prepare_done(struct job *job)
{
	struct child *c = container_of(job, struct child, job);
	struct launch *l = c->launch;

	prepare_finish(c);
	launch_check(l);
}

void child_prepare(struct child *c)
{
	const struct source *s = &c->launch->source;
	struct fork *f = c->fork;

	c->step = PREPARING;
	c->launch->active++;
	c->dir = f->dir;
	memcpy(c->name, f->id, sizeof c->name);
	if (!s->boot && !c->no_pool)
		c->idle = pool_take(f->all->pool, s->driver, s->facts.binary, &s->recipe);
	c->vm_uid = c->idle ? c->idle->uid : f->all->root ? fork_take_uid(f->all) : 0;
	f->vm_uid = c->vm_uid; /* taken from here on */
	if (c->idle && s->region == REGION_FILE) { /* nothing to copy: not worth a worker's while */
		prepare_run(&c->job);
		prepare_finish(c);
		return;
	}
	c->job.run = prepare_run;
	c->job.done = prepare_done;
	jobs_submit(f->all->jobs, &c->job);
}

