/* SPDX-License-Identifier: Apache-2.0
 *
 * A launch brings one or many forks from a source to running, all or nothing. Each child goes
 *
 *     waiting → preparing (a worker: records, memory) → starting (a VMM) → loading (loading.h) → loaded, stopped → resuming → running
 *
 * but for those steps that a VMM of the pool is past already,
 * and no guest runs before every one is loaded. A failure anywhere ends them all; when the last process is gone, the launch is answered. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "vmm/host.h"
#include "vmm/launch_private.h"
#include "vmm/learning.h"

static void launch_go(struct launch *l);

/* How many children are prepared and loaded at a time: more only make each slower than its deadline. */
static unsigned int at_once(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return cpus < 2 ? 4 : (unsigned int)cpus * 2;
}

static void launch_free(struct launch *l)
{
	for (unsigned int i = 0; i < l->count; i++)
		child_finish(&l->child[i]);
	source_finish(&l->source);
	free(l);
}

/* What the sentence of a failed launch begins with; `c` NULL: it is no one child's failure. */
static void name_child(const struct launch *l, const struct child *c, struct failure *why)
{
	if (!c)
		fail_within(why, "restore of %u forks from %s", l->count, l->source.path);
	else if (l->ids)
		fail_within(why, "restore of %s: child %u of %u, fork %s", l->source.path, (unsigned int)(c - l->child), l->count,
			    c->fork->id);
	else if (l->source.boot)
		fail_within(why, "boot of fork %s from %s", c->fork->id, l->source.path);
	else
		fail_within(why, "restore of fork %s from %s", c->fork->id, l->source.path);
}

static double between(uint64_t from, uint64_t to)
{
	return (double)(to - from) / 1000;
}

static double ms_since(const struct launch *l)
{
	return (double)(now_us() - l->since) / 1000;
}

static void count_outcome(struct launch *l)
{
	struct metrics *m = &l->all->metrics;

	if (l->failing) {
		metrics_fail(m, l->why.code);
		return;
	}
	if (l->source.boot) {
		m->boots++;
		return;
	}
	m->restores += l->count;
	for (unsigned int i = 0; i < l->count; i++)
		metrics_observe(&m->restore_seconds, l->child[i].fork->restore_ms / 1000);
}

static void tell_failed(struct launch *l, struct fork *f)
{
	fork_set_error(f, &l->why);
	fork_event(f, (struct event_facts){
			      .what = "failed", .snapshot = l->source.path, .code = l->why.code, .error = l->why.text, .ms = ms_since(l), .has_ms = true });
	fork_set_state(f, FORK_FAILED);
}

static void collect_ids(struct launch *l)
{
	for (unsigned int i = 0; i < l->count; i++)
		text_printf(l->ids, "%s\n", l->child[i].fork->id);
}

/* Others that are under way at the same time count it from here on. */
static void promise(struct launch *l, uint64_t bytes)
{
	for (unsigned int i = 0; i < l->count; i++)
		l->child[i].fork->promised = bytes;
}

/* From here on they outlive the daemon. Recorded first, for one that nobody knows of would be nobody's: where there is no room for that it ends with the daemon. */
static void make_known(struct launch *l)
{
	uint64_t launch = l->count > 1 ? l->all->next_serial++ : 0;
	int r = 0;

	for (unsigned int i = 0; i < l->count; i++) {
		struct fork *f = l->child[i].fork;

		f->known = FORK_KNOWN;
		f->launch = launch;
		f->recorded = fork_changed(f) == 0;
	}
	if (launch) /* all of them, or a successor finds none */
		r = fork_dir_commit(l->all, launch);
	for (unsigned int i = 0; i < l->count; i++)
		if (r == 0 && l->child[i].fork->recorded)
			l->child[i].fork->driver->keep(l->child[i].fork->vm);
	for (unsigned int i = 0; i < l->count && launch; i++)
		fork_dir_settle(l->child[i].fork);
	if (launch)
		fork_dir_forget_launch(l->all, launch);
}

/* All children have come to the same end: answer, and let them go. Nobody waits for what is made behind it for the next ones. */
static void launch_finish(struct launch *l)
{
	struct failure why = l->why;
	struct op *op = l->op;
	struct pool *pool = l->all->pool;
	struct origin *origin = l->source.origin ? origin_ref(l->source.origin) : NULL;
	bool failed = l->failing;

	op->cancel = NULL;
	count_outcome(l);
	promise(l, 0);
	if (!failed)
		make_known(l);
	for (unsigned int i = 0; i < l->count; i++) {
		struct fork *f = l->child[i].fork;

		if (f->known == FORK_LAUNCHING)
			f->known = FORK_KNOWN;
		fork_idle(f);
		if (failed && l->ids)
			fork_remove(f);
		else if (failed && !f->removed)
			tell_failed(l, f);
	}
	if (!failed && l->ids)
		collect_ids(l);
	op->done(op, failed ? &why : NULL, op->data);
	for (unsigned int i = 0; i < l->count; i++)
		paging_begin(l->child[i].fork->paging);
	launch_free(l);
	if (!failed && origin)
		pool_want(pool, origin);
	origin_unref(origin);
}

void launch_check(struct launch *l)
{
	if (!l->opening && (l->running == l->count || l->ended == l->count))
		launch_finish(l);
}

static void end_children(struct launch *l)
{
	for (unsigned int i = 0; i < l->count; i++)
		child_end(&l->child[i]);
}

void launch_fail(struct launch *l, struct child *c, const struct failure *why)
{
	if (l->failing)
		return;
	l->failing = true;
	l->why = *why;
	atomic_store(&l->job.cancelled, true);
	name_child(l, c, &l->why);
	if (!l->opening)
		end_children(l); /* else no child has begun, and the worker comes back first */
}

static void child_fail(struct child *c, int code, const char *what)
{
	struct failure why;

	fail(&why, code, "%s", what);
	launch_fail(c->launch, c, &why);
}

static void child_running(struct child *c)
{
	struct launch *l = c->launch;
	struct fork *f = c->fork;

	const uint64_t *took = c->loading.took;
	uint64_t now = now_us();
	const struct event_step steps[] = {
		{ "open", between(l->since, l->opened) },
		{ "vmm", between(l->opened, c->taken) },
		{ "map", (double)took[LOADING_MAP] / 1000 },
		{ "place", (double)(took[LOADING_PLACE] + took[LOADING_NOTES]) / 1000 },
		{ "load", (double)took[LOADING_STATE] / 1000 },
		{ "run", between(l->resumed, now) },
		{ NULL, 0 },
	};

	c->step = RUNNING;
	f->restore_ms = between(l->since, now);
	clock_gettime(CLOCK_REALTIME, &f->started);
	fork_event(f, (struct event_facts){ .what = "running", .snapshot = l->source.path, .ms = f->restore_ms, .has_ms = true, .steps = l->source.boot ? NULL : steps });
	fork_set_state(f, FORK_RUNNING);
	learning_begin(f);
	l->running++;
}

static void resume_all(struct launch *l)
{
	l->resumed = now_us();
	for (unsigned int i = 0; i < l->count; i++) {
		l->child[i].step = RESUMING;
		fork_request(l->child[i].fork, l->child[i].fork->driver->resume);
	}
}

void child_loaded(struct child *c)
{
	struct launch *l = c->launch;

	c->step = LOADED;
	l->active--;
	if (++l->loaded == l->count)
		resume_all(l);
	else
		launch_go(l);
}

static void launch_answered(struct fork *f, const struct failure *why)
{
	struct child *c = f->task_data;
	struct launch *l = c->launch;

	if (why && !f->vm->process.pid) {
		if (c->step == STARTING)
			l->active--;
		fork_release_vm(f);
		child_ended(c);
		launch_fail(l, c, why);
	} else if (c->step == ENDING) {
		return; /* the process's end is what counts */
	} else if (c->step == LOADING) {
		loading_answered(&c->loading, why); /* which comes back here */
		return;
	} else if (why)
		launch_fail(l, c, why);
	else if (c->step == STARTING && !l->source.boot)
		child_load(c);
	else if (c->step == STARTING)
		child_booted(c);
	else
		child_running(c);
	launch_check(l);
}

static void launch_exited(struct fork *f, const siginfo_t *how)
{
	struct child *c = f->task_data;
	struct launch *l = c->launch;
	char what[sizeof f->exit + 16];

	(void)how;
	snprintf(what, sizeof what, "the VMM %s", f->exit);
	child_fail(c, EIO, what);
	if (c->loading.working)
		c->vm_gone = true;
	else
		child_gone(c);
	launch_check(l);
}

static void launch_removed(struct fork *f)
{
	struct child *c = f->task_data;
	struct launch *l = c->launch;

	child_fail(c, ENOENT, "it was removed meanwhile");
	launch_check(l);
}

static const struct task launch_task = {
	.name = "a restore or boot",
	.answered = launch_answered,
	.exited = launch_exited,
	.removed = launch_removed,
};

static void launch_go(struct launch *l)
{
	for (unsigned int i = 0; i < l->count && l->active < at_once() && !l->failing; i++)
		if (l->child[i].step == WAITING)
			child_prepare(&l->child[i]);
}

/* What the forks have, or will when a launch has come to its end: of one user, or, for (uid_t)-1, of all. In bytes. */
static uint64_t memory_taken(const struct forks *all, uid_t uid)
{
	uint64_t sum = 0;
	struct fork *f;

	list_for_each(f, &all->list, link)
		if (uid == (uid_t)-1 || f->uid == uid)
			sum += f->ram.size ?: f->promised;
	return sum;
}

static unsigned long long mib(uint64_t bytes)
{
	return (bytes >> 20) + !!(bytes & 0xfffff);
}

static int check_user_limit(const struct launch *l, uint64_t want, struct failure *why)
{
	uid_t uid = l->child[0].fork->uid;
	uint64_t max = forks_bound(l->all, uid) ? config_number(&l->all->config, CONFIG_USER_MEMORY_MAX) << 20 : 0;
	uint64_t taken = max ? memory_taken(l->all, uid) : 0;

	if (max && (want > max || taken > max - want))
		return fail(why, ENOMEM, "%llu MiB of RAM are asked for; config/user_memory_max allows user %u %llu MiB, %llu MiB are taken", mib(want), uid,
			    mib(max), mib(taken));
	return 0;
}

static int check_limit(const struct launch *l, struct failure *why)
{
	uint64_t max = config_number(&l->all->config, CONFIG_MEMORY_MAX) << 20, taken = memory_taken(l->all, (uid_t)-1), want;

	if (__builtin_mul_overflow(l->source.recipe.ram_size, (uint64_t)l->count, &want))
		want = UINT64_MAX;
	if (max && (want > max || taken > max - want))
		return fail(why, ENOMEM, "%llu MiB of RAM are asked for; config/memory_max allows %llu MiB in all, %llu MiB are taken", mib(want), mib(max),
			    mib(taken));
	return check_user_limit(l, want, why);
}

/* What is only kept for whoever comes next goes first. Returns the bytes that are free in a moment. */
static uint64_t make_room(const struct launch *l, uint64_t bytes)
{
	uint64_t yielded = pool_yield(l->all->pool);

	return yielded < bytes ? yielded + template_forget(bytes - yielded) : yielded;
}

/* Room is looked for once the size is known and before anything is made. */
static int check_room(const struct launch *l, struct failure *why)
{
	uint64_t available, total, need;
	int r = check_limit(l, why);

	if (r < 0 || l->source.boot || l->source.origin->fill != FILL_EAGER || l->source.region == REGION_FILE)
		return r;
	host_memory(&available, &total);
	need = l->source.origin->snapshot->memory_bytes * l->count;
	if (available && need > available)
		available += make_room(l, need - available);
	if (available && need > available)
		return fail(why, ENOMEM, "%llu MiB of memory are needed, %llu MiB are left", (unsigned long long)(need >> 20),
			    (unsigned long long)(available >> 20));
	return 0;
}

static void open_run(struct job *job)
{
	struct launch *l = container_of(job, struct launch, job);

	l->open_why.code = 0;
	source_open(&l->source, &l->open_why);
}

static void open_done(struct job *job)
{
	struct launch *l = container_of(job, struct launch, job);

	l->opening = false;
	l->opened = now_us();
	if (!l->failing && (l->open_why.code || check_room(l, &l->open_why) < 0)) {
		launch_fail(l, l->ids ? NULL : &l->child[0], &l->open_why);
	} else if (l->failing) {
		end_children(l);
	} else {
		promise(l, l->source.recipe.ram_size);
		launch_go(l);
	}
	launch_check(l);
}

static void launch_cancel(struct op *op)
{
	struct launch *l = op->runner;
	struct failure why;

	fail(&why, ECANCELED, "the writer was told to end");
	launch_fail(l, l->ids ? NULL : &l->child[0], &why);
	launch_check(l);
}

static int launch_alloc(struct launch **ret, struct forks *all, unsigned int count, struct failure *why)
{
	struct launch *l = calloc(1, sizeof *l + count * sizeof l->child[0]);

	if (!l)
		return fail(why, ENOMEM, "no memory for %u forks", count);
	l->all = all;
	source_init(&l->source);
	for (unsigned int i = 0; i < count; i++)
		l->child[i] = (struct child){ .launch = l, .ram.fd = -1, .loading = { .ram.fd = -1, .vmstate = -1 }, .console = -1, .log = -1, .groups = { -1, -1, -1 } };
	*ret = l;
	return 0;
}

static int set_source(struct launch *l, struct caller *c, const char *path, const struct config *config, struct failure *why)
{
	static const enum config_id programs[] = { CONFIG_QEMU, CONFIG_FIRECRACKER, CONFIG_DISK_DIR, CONFIG_TEMPLATES_MAX };
	struct source *s = &l->source;
	int r;

	s->self = caller_ref(l->all->self);
	s->caller = caller_ref(c);
	s->cancelled = &l->job.cancelled;
	snprintf(s->path, sizeof s->path, "%s", path);
	r = config_copy(&s->config, config, CONFIG_FORK_COUNT);
	for (size_t i = 0; i < ARRAY_LEN(programs) && r == 0; i++)
		r = config_set(&s->config, programs[i], config_get(&l->all->config, programs[i]), why);
	return r < 0 ? fail(why, ENOMEM, "no memory") : 0;
}

static void add_child(struct launch *l, struct fork *f)
{
	struct child *c = &l->child[l->count++];

	c->fork = fork_ref(f);
	f->task_data = c;
	f->error[0] = f->exit[0] = '\0';
	f->restore_ms = -1;
	f->stopping = false;
	f->state = FORK_RESTORING;
	if (f->known == FORK_KNOWN)
		f->known = FORK_LAUNCHING;
	clock_gettime(CLOCK_REALTIME, &f->changed);
	signal_emit(&f->listeners);
}

static void launch_begin(struct launch *l, uint64_t since, struct op *op)
{
	l->since = since;
	l->op = op;
	op->cancel = launch_cancel;
	op->runner = l;
	l->opening = true;
	l->job.run = open_run;
	l->job.done = open_done;
	jobs_submit(l->all->jobs, &l->job);
}

static int launch_one(struct fork *f, bool boot, struct caller *c, const char *path, uint64_t since, struct op *op, struct failure *why)
{
	struct launch *l = NULL;
	int r;

	if (f->vm || f->state == FORK_RESTORING || f->task)
		return fail(why, EBUSY, "fork %s: is %s: only an empty, failed or exited one can be restored or booted", f->id,
			    fork_state_name(f->state));
	r = launch_alloc(&l, f->all, 1, why);
	if (r < 0)
		return r;
	l->source.boot = boot;
	r = set_source(l, c, path, &f->config, why);
	if (r == 0)
		r = fork_begin(f, &launch_task, NULL, why);
	if (r < 0) {
		launch_free(l);
		return r;
	}
	add_child(l, f);
	launch_begin(l, since, op);
	return 0;
}

int fork_restore(struct fork *f, struct caller *c, const char *path, uint64_t since, struct op *op, struct failure *why)
{
	return launch_one(f, false, c, path, since, op, why);
}

int fork_boot(struct fork *f, struct caller *c, const char *path, uint64_t since, struct op *op, struct failure *why)
{
	return launch_one(f, true, c, path, since, op, why);
}

static int make_fork(struct launch *l, const char *prefix, unsigned int i, struct failure *why)
{
	struct caller *c = l->source.caller;
	char id[FORK_ID_MAX + 16];
	struct fork *f;
	int r;

	if (prefix && (size_t)snprintf(id, sizeof id, "%.65s%u", prefix, i) > FORK_ID_MAX)
		return fail(why, EINVAL, "\"%s\": is too long for a fork's name", id);
	r = fork_create_for_launch(&f, l->all, prefix ? id : NULL, c->uid, c->gid, why);
	if (r < 0)
		return r;
	r = fork_begin(f, &launch_task, NULL, why);
	if (r < 0) {
		fork_remove(f);
		return r;
	}
	add_child(l, f);
	return 0;
}

static void unmake_forks(struct launch *l)
{
	for (unsigned int i = 0; i < l->count; i++) {
		fork_idle(l->child[i].fork);
		fork_remove(l->child[i].fork);
	}
}

int forks_restore(struct forks *all, struct caller *c, const char *path, unsigned int count, const char *prefix, uint64_t since,
		  struct text *ret_ids, struct op *op, struct failure *why)
{
	struct launch *l = NULL;
	int r = launch_alloc(&l, all, count, why);

	if (r < 0)
		return r;
	l->ids = ret_ids;
	r = set_source(l, c, path, &all->config, why);
	if (r == 0)
		r = forks_room(all, c->uid, count, why);
	for (unsigned int i = 0; i < count && r == 0; i++)
		r = make_fork(l, prefix, i, why);
	if (r < 0) {
		unmake_forks(l);
		launch_free(l);
		return fail_within(why, "restore of %u forks from %s", count, path);
	}
	launch_begin(l, since, op);
	return 0;
}
