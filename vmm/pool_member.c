/* SPDX-License-Identifier: Apache-2.0
 *
 * One VMM of the pool: starting → idle → loading → loaded; its end. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/log.h"
#include "vmm/pool_private.h"

static void idle_gone(struct idle *i)
{
	struct pool *p = i->pool;

	list_remove(&i->link);
	close_fd(&i->dir);
	free(i);
	signal_emit(&p->all->listeners);
}

static void remove_run(struct job *job)
{
	struct idle *i = container_of(job, struct idle, job);

	close_fd(&i->dir); /* the last descriptor of a directory that is gone takes as long as the removing */
	remove_tree(i->pool->dir, i->name);
}

static void remove_done(struct job *job)
{
	idle_gone(container_of(job, struct idle, job));
}

/* A directory may be on a disk: removing it is a worker's task. */
static void remove_dir(struct idle *i)
{
	if (i->dir < 0) {
		idle_gone(i);
		return;
	}
	i->job.run = remove_run;
	i->job.done = remove_done;
	jobs_submit(i->pool->all->jobs, &i->job);
}

static void give_back(struct idle *i)
{
	i->discarded = i->dead = true;
	loading_finish(&i->loading);
	if (i->vm)
		i->driver->destroy(i->vm);
	i->vm = NULL;
	paging_unref(i->paging);
	origin_unref(i->origin);
	i->paging = NULL;
	i->origin = NULL;
	i->uid = 0;
	region_finish(&i->ram);
	close_fd(&i->console);
	close_fd(&i->log);
	for (int n = 0; n < CGROUP_PLACES; n++)
		close_fd(&i->groups[n]);
	group_remove(i->pool->all, i->group);
}

static void idle_free(struct idle *i)
{
	give_back(i);
	remove_dir(i);
}

void pool_empty(struct idle *i)
{
	i->vm = NULL;
	give_back(i);
}

void pool_release(struct idle *i)
{
	remove_dir(i);
}

void pool_discard(struct idle *i)
{
	if (i->discarded)
		return;
	i->discarded = true;
	loading_abort(&i->loading);
	if (i->dead && !i->loading.working)
		idle_free(i);
	else if (!i->dead && i->vm)
		i->driver->kill(i->vm);
}

static void on_answered(struct vm *vm, const struct failure *why, void *data)
{
	struct idle *i = data;

	if (why && !vm->process.pid) {
		pool_give_up(i->pool, why->text);
		i->dead = true;
		idle_free(i);
	} else if (i->origin) {
		loading_answered(&i->loading, why);
	} else {
		i->ready = !why;
		pool_refill(i->pool);
	}
}

static void on_exited(struct vm *vm, const siginfo_t *how, void *data)
{
	struct idle *i = data;
	struct pool *p = i->pool;
	bool wanted = !i->discarded;
	char text[96];

	(void)vm;
	i->dead = true;
	if (wanted && !i->ready)
		pool_give_up(p, process_exit_text(how, text, sizeof text));
	else if (wanted)
		log_warn("a VMM that waited %s", process_exit_text(how, text, sizeof text));
	loading_abort(&i->loading);
	if (!i->loading.working)
		idle_free(i);
	if (wanted)
		pool_refill(p);
}

static void on_typable(struct vm *vm, void *data)
{
	(void)vm;
	(void)data;
}

static void on_turned(struct vm *vm, bool running, void *data)
{
	(void)vm;
	(void)running;
	(void)data;
}

static void on_busy(struct vm *vm, bool busy, void *data)
{
	(void)vm;
	(void)busy;
	(void)data;
}

static const struct vm_watcher watcher = { on_answered, on_busy, on_exited, on_typable, on_turned };

static void on_paging_broke(void *data, const struct failure *why)
{
	struct idle *i = data;

	log_warn("a guest that waited is given up: %s", why->text);
	if (i->discarded)
		return;
	pool_not_loaded(i->pool, i);
	pool_refill(i->pool);
}

static void on_loading_broke(struct loading *l, const struct failure *why)
{
	on_paging_broke(container_of(l, struct idle, loading), why);
}

static void on_loaded(struct loading *l, const struct failure *why)
{
	struct idle *i = container_of(l, struct idle, loading);
	struct pool *p = i->pool;

	if (i->dead) {
		idle_free(i);
		return;
	}
	if (i->discarded)
		return;
	if (!why) {
		i->ram = l->ram;
		l->ram = (struct region){ .fd = -1 };
		i->paging = steal_ptr(&l->paging);
		if (i->paging)
			paging_watch(i->paging, on_paging_broke, i);
		paging_begin(i->paging);
		i->ready = true;
		pool_refill(p);
		return;
	}
	log_warn("a guest can't be kept waiting: %s", why->text);
	pool_not_loaded(p, i);
}

void member_load(struct idle *i, struct origin *o)
{
	i->origin = origin_ref(o);
	i->ready = false;
	i->loading.jobs = i->pool->all->jobs;
	i->loading.vm = i->vm;
	i->loading.origin = o;
	i->loading.own = &i->ram;
	i->loading.broke = on_loading_broke;
	i->loading.done = on_loaded;
	loading_begin(&i->loading);
}

static void make_run(struct job *job)
{
	struct idle *i = container_of(job, struct idle, job);

	if (mkdirat(i->pool->dir, i->name, 0700)) {
		fail_errno(&i->why, errno, "pool/%s", i->name);
		return;
	}
	i->dir = openat(i->pool->dir, i->name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (i->dir < 0) {
		fail_errno(&i->why, errno, "pool/%s", i->name);
		return;
	}
	i->console = fork_dir_record(i->dir, "console.txt", i->uid, &i->why);
	if (i->console >= 0)
		i->log = fork_dir_record(i->dir, "log.txt", 0, &i->why);
	if (i->log >= 0 && region_create_shared(&i->ram, i->name, i->shape.ram_size, &i->why) == 0 && *i->group)
		cgroup_make(i->group, &i->limits, i->groups, &i->why);
}

static int start(struct idle *i, struct failure *why)
{
	struct forks *all = i->pool->all;
	struct vm_spec spec = {
		.event = all->event,
		.jobs = all->jobs,
		.id = i->name,
		.program = &i->program,
		.dir = i->dir,
		.recipe = &i->shape,
		.ram = &i->ram,
		.drop = all->root,
		.uid = i->uid,
		.gid = i->uid,
		.netns = all->netns,
		.groups = i->groups,
		.console = i->console,
		.log = i->log,
		.kernel = -1,
		.initrd = -1,
		.args = "",
	};

	return i->driver->start(&i->vm, &spec, &watcher, i, why);
}

static void make_done(struct job *job)
{
	struct idle *i = container_of(job, struct idle, job);

	if (!i->why.code && !i->discarded && start(i, &i->why) == 0)
		return;
	if (i->why.code)
		pool_give_up(i->pool, i->why.text);
	idle_free(i);
}

void member_make(struct pool *p)
{
	struct idle *i = calloc(1, sizeof *i);

	if (!i)
		return;
	i->pool = p;
	i->driver = p->driver;
	i->shape = p->shape;
	i->uid = p->all->root ? fork_take_uid(p->all) : 0;
	i->ram.fd = i->dir = i->console = i->log = i->loading.ram.fd = i->loading.vmstate = -1;
	i->program = p->program;
	snprintf(i->name, sizeof i->name, "pool-%llu", (unsigned long long)p->all->next_serial++);
	if (config_vmm_limits(&p->all->config, &i->limits))
		snprintf(i->group, sizeof i->group, "%s", i->name);
	for (int n = 0; n < CGROUP_PLACES; n++)
		i->groups[n] = -1;
	list_append(&p->members, &i->link);
	i->job.run = make_run;
	i->job.done = make_done;
	jobs_submit(p->all->jobs, &i->job);
}

/* What it shares (a template, the VMM's program) is counted elsewhere, or is nobody's. */
static uint64_t process_bytes(pid_t pid)
{
	unsigned long resident = 0, shared = 0;
	char path[32];
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%*u %lu %lu", &resident, &shared) != 2)
		resident = shared = 0;
	fclose(f);
	return resident > shared ? (resident - shared) * PAGE_BYTES : 0;
}

/* Before there is a VMM its memory is a worker's, and empty. */
uint64_t member_bytes(const struct idle *i)
{
	pid_t pid = i->vm ? i->vm->process.pid : 0;

	if (!i->vm)
		return 0;
	return region_bytes(&i->ram) + (pid ? process_bytes(pid) : 0);
}
