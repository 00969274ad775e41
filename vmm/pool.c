/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pool.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/log.h"
#include "vmm/fork_private.h"
#include "vmm/host.h"

#define STARTS_AT_ONCE 2
#define DEMANDS_MAX 8
#define DEMAND_USEC 60000000 /* how long after its last restore a snapshot counts as one in demand */

/* A snapshot that was restored lately. */
struct demand {
	struct list link;
	struct origin *origin;
	uint64_t until;
};

struct pool {
	struct forks *all;
	struct list members; /* starting, waiting or ending: all there are */
	int dir;             /* O_PATH, their directories' parent */
	bool ending;
	struct pool_counts counts; /* but for what waits */
	struct list demands;       /* the latest first */
	unsigned int demand_count;
	sd_event_source *timer;    /* the end of the earliest demand */
	/* the shape of the latest */
	const struct driver *driver;
	char binary[256];
	struct recipe shape;
};

int pool_create(struct pool **ret, struct forks *all)
{
	struct pool *p = calloc(1, sizeof *p);

	if (!p)
		return -ENOMEM;
	p->all = all;
	list_init(&p->members);
	list_init(&p->demands);
	if (mkdirat(all->state_fd, "pool", 0700) && errno != EEXIST) {
		free(p);
		return -errno;
	}
	p->dir = openat(all->state_fd, "pool", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p->dir < 0) {
		free(p);
		return -errno;
	}
	*ret = p;
	return 0;
}

void pool_destroy(struct pool *p)
{
	if (!p)
		return;
	sd_event_source_disable_unref(p->timer);
	close_fd(&p->dir);
	unlinkat(p->all->state_fd, "pool", AT_REMOVEDIR);
	free(p);
}

static bool same_device(const struct recipe_device *a, const struct recipe_device *b)
{
	return !strcmp(a->type, b->type) && !strcmp(a->id, b->id);
}

static bool same_shape(const struct recipe *a, const struct recipe *b)
{
	if (strcmp(a->machine, b->machine) || strcmp(a->cpu, b->cpu) || strcmp(a->accel, b->accel) || a->vcpus != b->vcpus ||
	    a->ram_size != b->ram_size || a->device_count != b->device_count)
		return false;
	for (unsigned int i = 0; i < a->device_count; i++)
		if (!same_device(&a->devices[i], &b->devices[i]))
			return false;
	return true;
}

static bool fits(const struct idle *i, const struct driver *driver, const char *binary, const struct recipe *recipe)
{
	return i->driver == driver && !strcmp(i->binary, binary) && same_shape(&i->shape, recipe);
}

static bool waits(const struct idle *i)
{
	return i->ready && !i->dead && !i->discarded;
}

/* That it has ended may not have been told yet. */
static bool is_alive(const struct idle *i)
{
	struct pollfd end = { .fd = i->vm->process.pidfd, .events = POLLIN };

	return poll(&end, 1, 0) == 0;
}

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
	const struct idle *i = container_of(job, struct idle, job);

	remove_tree(i->pool->dir, i->name);
}

static void remove_done(struct job *job)
{
	idle_gone(container_of(job, struct idle, job));
}

/* A directory may be on a disk: removing it is a worker's task. */
static void idle_free(struct idle *i)
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
	if (i->dir < 0) {
		idle_gone(i);
		return;
	}
	i->job.run = remove_run;
	i->job.done = remove_done;
	jobs_submit(i->pool->all->jobs, &i->job);
}

void pool_release(struct idle *i)
{
	i->vm = NULL;
	idle_free(i);
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

static void refill(struct pool *p);

/* Not again before somebody asks. */
static void give_up(struct pool *p, const char *why)
{
	log_warn("no VMM can be kept waiting: %s", why);
	p->driver = NULL;
}

static void on_answered(struct vm *vm, const struct failure *why, void *data)
{
	struct idle *i = data;

	if (why && !vm->process.pid) {
		give_up(i->pool, why->text);
		i->dead = true;
		idle_free(i);
	} else if (i->origin) {
		loading_answered(&i->loading, why);
	} else {
		i->ready = !why;
		refill(i->pool);
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
		give_up(p, process_exit_text(how, text, sizeof text));
	else if (wanted)
		log_warn("a VMM that waited %s", process_exit_text(how, text, sizeof text));
	loading_abort(&i->loading);
	if (!i->loading.working)
		idle_free(i);
	if (wanted)
		refill(p);
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

static const struct vm_watcher watcher = { on_answered, on_exited, on_typable, on_turned };

static void drop_demand(struct demand *d)
{
	list_remove(&d->link);
	origin_unref(d->origin);
	free(d);
}

static void end_demand(struct pool *p, struct demand *d)
{
	struct idle *i;

	list_for_each(i, &p->members, link)
		if (i->origin && !i->discarded && origin_same(i->origin, d->origin))
			pool_discard(i);
	p->demand_count--;
	drop_demand(d);
}

static void on_paging_broke(void *data, const struct failure *why)
{
	struct idle *i = data;

	log_warn("a guest that waited is given up: %s", why->text);
	if (!i->discarded)
		pool_discard(i);
}

static void on_loading_broke(struct loading *l, const struct failure *why)
{
	on_paging_broke(container_of(l, struct idle, loading), why);
}

/* A snapshot that can't be loaded is one for whoever restores it to hear of. */
static void on_loaded(struct loading *l, const struct failure *why)
{
	struct idle *i = container_of(l, struct idle, loading);
	struct pool *p = i->pool;
	struct demand *d;

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
		i->ready = true;
		refill(p);
		return;
	}
	log_warn("a guest can't be kept waiting: %s", why->text);
	list_for_each(d, &p->demands, link)
		if (d->origin == i->origin) {
			end_demand(p, d); /* with this one */
			return;
		}
	pool_discard(i);
}

static void load(struct idle *i, struct origin *o)
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
	if (i->log >= 0)
		region_create_shared(&i->ram, i->name, i->shape.ram_size, &i->why);
}

static int start(struct idle *i, struct failure *why)
{
	struct forks *all = i->pool->all;
	struct vm_spec spec = {
		.event = all->event,
		.jobs = all->jobs,
		.id = i->name,
		.binary = i->binary,
		.dir = i->dir,
		.recipe = &i->shape,
		.ram = &i->ram,
		.drop = all->root,
		.uid = i->uid,
		.gid = i->uid,
		.netns = all->netns,
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
		give_up(i->pool, i->why.text);
	idle_free(i);
}

static void make(struct pool *p)
{
	struct idle *i = calloc(1, sizeof *i);

	if (!i)
		return;
	i->pool = p;
	i->driver = p->driver;
	i->shape = p->shape;
	i->uid = p->all->root ? fork_take_uid(p->all) : 0;
	i->ram.fd = i->dir = i->console = i->log = i->loading.ram.fd = i->loading.vmstate = -1;
	snprintf(i->binary, sizeof i->binary, "%s", p->binary);
	snprintf(i->name, sizeof i->name, "pool-%llu", (unsigned long long)p->all->next_serial++);
	list_append(&p->members, &i->link);
	i->job.run = make_run;
	i->job.done = make_done;
	jobs_submit(p->all->jobs, &i->job);
}

/* Memory is for guests first. */
static bool scarce(void)
{
	uint64_t available, total;

	host_memory(&available, &total);
	return available < total / 10;
}

struct census {
	unsigned int fitting, starting, loading;
	struct idle *other; /* one that waits for another shape */
	struct idle *spare; /* an idle one of the shape */
};

static struct census take_census(const struct pool *p)
{
	struct census c = { 0 };
	struct idle *i;

	list_for_each(i, &p->members, link) {
		if (i->discarded || i->dead)
			continue;
		c.loading += i->origin && !i->ready;
		c.starting += !i->origin && !i->ready;
		if (i->origin)
			continue;
		if (p->driver && fits(i, p->driver, p->binary, &p->shape)) {
			c.fitting++;
			if (i->ready && !c.spare)
				c.spare = i;
		} else if (!c.other && i->ready) {
			c.other = i;
		}
	}
	return c;
}

static unsigned int count_loaded(const struct pool *p, const struct origin *o)
{
	unsigned int n = 0;
	struct idle *i;

	list_for_each(i, &p->members, link)
		n += i->origin && !i->discarded && !i->dead && origin_same(i->origin, o);
	return n;
}

/* Memory is for guests first: what is loaded costs most, and goes before what is idle. */
static void shrink(struct pool *p)
{
	struct idle *i, *one = NULL;

	while (!list_empty(&p->demands))
		end_demand(p, list_first(&p->demands, struct demand, link));
	list_for_each(i, &p->members, link)
		if (waits(i))
			one = i;
	if (one)
		pool_discard(one);
}

/* One at a time: guests that run are not to wait for those that don't. */
static void refill_loaded(struct pool *p, struct census c)
{
	uint64_t want = config_number(&p->all->config, CONFIG_POOL_LOADED);
	struct demand *d;

	list_for_each(d, &p->demands, link) {
		struct origin *o = d->origin;

		if (count_loaded(p, o) >= want || c.loading || !c.spare || !fits(c.spare, o->driver, o->binary, &o->snapshot->recipe))
			continue;
		load(c.spare, o);
		return;
	}
}

static void refill(struct pool *p)
{
	uint64_t want = config_number(&p->all->config, CONFIG_POOL);
	struct census c = take_census(p);

	if (p->ending || !p->driver)
		return;
	if (scarce()) {
		shrink(p);
		return;
	}
	if (c.other)
		pool_discard(c.other);
	refill_loaded(p, c);
	c = take_census(p);
	for (; c.fitting < want && c.starting < STARTS_AT_ONCE; c.fitting++, c.starting++)
		make(p);
}

static void expire(struct pool *p);

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	expire(data);
	return 0;
}

/* The last in the list is the one that ends first. */
static void expire(struct pool *p)
{
	struct demand *d;

	while ((d = list_last(&p->demands, struct demand, link)) && d->until <= now_us())
		end_demand(p, d);
	p->timer = sd_event_source_disable_unref(p->timer);
	if (d)
		sd_event_add_time(p->all->event, &p->timer, CLOCK_MONOTONIC, d->until, 1000000, on_timer, p);
}

static int add_demand(struct pool *p, struct origin *o)
{
	struct demand *d = calloc(1, sizeof *d);

	if (!d)
		return -ENOMEM;
	d->origin = origin_ref(o);
	d->until = now_us() + DEMAND_USEC;
	list_prepend(&p->demands, &d->link);
	p->demand_count++;
	return 0;
}

void pool_want(struct pool *p, struct origin *o)
{
	uint64_t loaded = config_number(&p->all->config, CONFIG_POOL_LOADED);
	struct demand *d;

	p->driver = o->driver;
	p->shape = o->snapshot->recipe;
	snprintf(p->binary, sizeof p->binary, "%s", o->binary);
	list_for_each(d, &p->demands, link)
		if (origin_same(d->origin, o)) {
			p->demand_count--;
			drop_demand(d);
			break;
		}
	if (loaded && !p->ending)
		add_demand(p, o);
	if (p->demand_count > DEMANDS_MAX)
		end_demand(p, list_last(&p->demands, struct demand, link));
	expire(p);
	refill(p);
}

void pool_forget(struct pool *p, const struct snapshot *s)
{
	struct demand *d;

	list_for_each(d, &p->demands, link)
		if (d->origin->snapshot == s)
			end_demand(p, d);
}

static struct idle *find_loaded(const struct pool *p, const struct origin *o)
{
	struct idle *i;

	list_for_each(i, &p->members, link)
		if (waits(i) && i->origin && origin_same(i->origin, o) && is_alive(i))
			return i;
	return NULL;
}

static struct idle *find_idle(const struct pool *p, const struct origin *o)
{
	struct idle *i;

	list_for_each(i, &p->members, link)
		if (waits(i) && !i->origin && fits(i, o->driver, o->binary, &o->snapshot->recipe) && is_alive(i))
			return i;
	return NULL;
}

struct idle *pool_take(struct pool *p, const struct origin *o)
{
	struct idle *i = find_loaded(p, o);

	p->counts.loaded_hits += !!i;
	if (!i)
		i = find_idle(p, o);
	p->counts.hits += !!i;
	p->counts.misses += !i;
	return i;
}

void pool_end(struct pool *p)
{
	struct idle *i;

	p->ending = true;
	while (!list_empty(&p->demands))
		end_demand(p, list_first(&p->demands, struct demand, link));
	list_for_each(i, &p->members, link)
		if (!i->discarded)
			pool_discard(i);
}

bool pool_gone(const struct pool *p)
{
	return list_empty(&p->members);
}

bool pool_has_uid(const struct pool *p, uid_t uid)
{
	struct idle *i;

	list_for_each(i, &p->members, link)
		if (i->uid == uid)
			return true;
	return false;
}

void pool_count(const struct pool *p, struct pool_counts *ret)
{
	struct idle *i;

	*ret = p->counts;
	list_for_each(i, &p->members, link) {
		ret->idle += waits(i) && !i->origin;
		ret->loaded += waits(i) && i->origin;
	}
}
