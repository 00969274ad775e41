/* SPDX-License-Identifier: Apache-2.0
 *
 * One child of a launch: its records and memory, its VMM out of the pool or a new one, its guest, its end. */
#include <stdio.h>
#include <string.h>

#include "vmm/base/log.h"
#include "vmm/launch_private.h"

void child_finish(struct child *c)
{
	loading_finish(&c->loading);
	region_finish(&c->ram);
	close_fd(&c->console);
	close_fd(&c->log);
	for (int i = 0; i < CGROUP_PLACES; i++)
		close_fd(&c->groups[i]);
	if (c->shell)
		pool_release(c->shell);
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
	case LOADING:
		loading_abort(&c->loading);
		__attribute__((fallthrough));
	case STARTING:
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

void child_gone(struct child *c)
{
	loading_finish(&c->loading);
	fork_release_vm(c->fork);
	child_ended(c);
}

/* The fork takes over the guest's memory. */
static void take_guest(struct child *c, struct region *ram, struct paging *paging)
{
	struct fork *f = c->fork;

	f->ram = *ram;
	*ram = (struct region){ .fd = -1 };
	f->paging = paging;
	if (paging)
		paging_watch(paging, fork_memory_broke, f);
}

static void on_asks(struct loading *l)
{
	fork_deadline_start(container_of(l, struct child, loading)->fork);
}

static void on_broke(struct loading *l, const struct failure *why)
{
	struct child *c = container_of(l, struct child, loading);
	struct launch *launch = c->launch;

	launch_fail(launch, c, why);
	launch_check(launch);
}

static void on_done(struct loading *l, const struct failure *why)
{
	struct child *c = container_of(l, struct child, loading);
	struct launch *launch = c->launch;

	if (c->step == ENDING && c->vm_gone) {
		child_gone(c);
	} else if (c->step != ENDING && why) {
		launch_fail(launch, c, why);
	} else if (c->step != ENDING) {
		take_guest(c, &l->ram, l->paging);
		l->paging = NULL;
		child_loaded(c);
	}
	launch_check(launch);
}

void child_load(struct child *c)
{
	c->step = LOADING;
	if (!c->taken)
		c->taken = now_us();
	c->loading.jobs = c->fork->all->jobs;
	c->loading.vm = c->fork->vm;
	c->loading.origin = c->fork->origin;
	c->loading.id = c->fork->id;
	c->loading.caller = c->launch->source.caller;
	c->loading.own = &c->ram;
	c->loading.asks = on_asks;
	c->loading.broke = on_broke;
	c->loading.done = on_done;
	loading_begin(&c->loading);
}

static void prepare_run(struct job *job)
{
	struct child *c = container_of(job, struct child, job);

	c->console = fork_dir_record(c->dir, "console.txt", c->vm_uid, &c->why);
	if (c->console >= 0)
		c->log = fork_dir_record(c->dir, "log.txt", 0, &c->why);
	if (c->log >= 0 && region_create_shared(&c->ram, c->name, c->launch->source.recipe.ram_size, &c->why) == 0 && c->limited)
		cgroup_make(c->group, &c->limits, c->groups, &c->why);
}

/* What the pool's VMM brings along becomes the fork's. */
static int move_records(const struct idle *i, int dir, struct failure *why)
{
	static const char *const names[] = { "qmp", "console", "sockets", "console.txt", "log.txt" };

	for (size_t n = 0; n < ARRAY_LEN(names); n++) {
		int r = renameat(i->dir, names[n], dir, names[n]);

		if (r && errno == ENOTEMPTY) { /* an earlier VMM left something there that it had no business with */
			remove_tree(dir, names[n]);
			r = renameat(i->dir, names[n], dir, names[n]);
		}
		if (r && errno != ENOENT)
			return fail_errno(why, errno, "the waiting VMM's %s", names[n]);
	}
	return 0;
}

static struct vm_spec make_spec(struct child *c)
{
	const struct source *s = &c->launch->source;
	struct fork *f = c->fork;

	return (struct vm_spec){
		.event = f->all->event,
		.jobs = f->all->jobs,
		.id = f->id,
		.program = &s->facts.program,
		.dir = f->dir,
		.recipe = &f->recipe,
		.ram = &c->ram,
		.drop = f->all->root,
		.uid = f->vm_uid,
		.gid = f->vm_uid,
		.netns = f->all->netns,
		.groups = c->groups,
		.console = f->console.fd,
		.log = f->log.fd,
		.kernel = s->kernel,
		.initrd = s->initrd,
		.args = s->args ?: "",
	};
}

static int watch_records(struct fork *f, int *console, int *log, struct failure *why)
{
	int r = record_open(&f->console, f->all->event, steal_fd(console));

	if (r == 0)
		r = record_open(&f->log, f->all->event, steal_fd(log));
	return r < 0 ? fail_errno(why, -r, "its console or log can't be watched") : 0;
}

/* The fork becomes what the launch makes of it. */
static void describe(struct child *c)
{
	struct source *s = &c->launch->source;
	struct fork *f = c->fork;

	f->vm_uid = c->vm_uid;
	f->driver = s->driver;
	f->program = s->facts.program;
	f->recipe = s->recipe;
	f->from_boot = s->boot;
	f->origin = s->origin ? origin_ref(s->origin) : NULL;
	snprintf(f->backend, sizeof f->backend, "%s", s->backend);
	snprintf(f->snapshot, sizeof f->snapshot, "%s", s->boot ? "" : s->path);
}

/* A failure that leaves no process to wait for. */
static void child_fail(struct child *c, const struct failure *why)
{
	struct launch *l = c->launch;

	fork_release_vm(c->fork);
	child_ended(c);
	launch_fail(l, c, why);
}

/* The pool's VMM answers to the fork from now on. */
static void adopt(struct child *c, struct idle *i)
{
	struct fork *f = c->fork;
	bool loaded = i->origin;

	c->taken = now_us();
	snprintf(f->ram_name, sizeof f->ram_name, "%s", i->name);
	memcpy(f->group, i->group, sizeof f->group);
	i->group[0] = '\0';
	f->vm = i->vm;
	f->vm->watcher = &fork_watcher;
	f->vm->data = f;
	c->launch->active++;
	if (loaded) {
		take_guest(c, &i->ram, i->paging);
		i->paging = NULL;
	} else {
		c->ram = i->ram;
		i->ram = (struct region){ .fd = -1 };
	}
	pool_empty(i);
	c->shell = i;
	if (loaded)
		child_loaded(c);
	else
		child_load(c);
}

/* Nothing in this waits: it isn't worth a worker's while. */
static void child_take(struct child *c, struct idle *i)
{
	struct fork *f = c->fork;
	struct failure why;
	int r = move_records(i, f->dir, &why);

	c->vm_uid = i->uid;
	describe(c);
	if (r == 0)
		r = watch_records(f, &i->console, &i->log, &why);
	if (r == 0) {
		adopt(c, i);
		return;
	}
	pool_discard(i);
	child_fail(c, &why);
}

static void child_start(struct child *c)
{
	struct fork *f = c->fork;
	struct vm_spec spec;
	struct failure why;
	int r;

	describe(c);
	snprintf(f->ram_name, sizeof f->ram_name, "%s", c->name);
	r = watch_records(f, &c->console, &c->log, &why);
	spec = make_spec(c);
	if (r == 0)
		r = f->driver->start(&f->vm, &spec, &fork_watcher, f, &why);
	if (r < 0) {
		child_fail(c, &why);
		return;
	}
	c->step = STARTING;
	c->launch->active++;
	fork_deadline_start(f);
}

static void prepare_done(struct job *job)
{
	struct child *c = container_of(job, struct child, job);
	struct launch *l = c->launch;

	l->active--;
	if (l->failing || c->why.code) {
		child_ended(c);
		if (c->why.code)
			launch_fail(l, c, &c->why);
	} else {
		child_start(c);
	}
	launch_check(l);
}

static struct idle *find_waiting(struct child *c)
{
	const struct source *s = &c->launch->source;
	struct pool *pool = c->fork->all->pool;

	return s->boot ? NULL : pool_take(pool, s->origin);
}

void child_prepare(struct child *c)
{
	struct fork *f = c->fork;
	struct idle *i = find_waiting(c);

	if (i) {
		child_take(c, i);
		return;
	}
	c->step = PREPARING;
	c->launch->active++;
	c->dir = f->dir;
	memcpy(c->name, f->id, sizeof c->name);
	c->limited = config_vmm_limits(&f->all->config, &c->limits);
	if (c->limited)
		snprintf(c->group, sizeof c->group, "vm-%llu", (unsigned long long)f->all->next_serial++);
	memcpy(f->group, c->group, sizeof f->group);
	c->vm_uid = f->all->root ? fork_take_uid(f->all) : 0;
	f->vm_uid = c->vm_uid; /* taken from here on */
	c->job.run = prepare_run;
	c->job.done = prepare_done;
	jobs_submit(f->all->jobs, &c->job);
}

void child_booted(struct child *c)
{
	take_guest(c, &c->ram, NULL);
	child_loaded(c);
}
