/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pool.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/log.h"
#include "vmm/fork_private.h"
#include "vmm/host.h"

#define STARTS_AT_ONCE 2

struct pool {
	struct forks *all;
	struct list members; /* starting, waiting, taken or ending: all there are */
	int dir;             /* O_PATH, their directories' parent */
	bool ending;
	uint64_t hits, misses;
	/* the shape in demand */
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

static void idle_free(struct idle *i)
{
	struct pool *p = i->pool;

	list_remove(&i->link);
	if (i->vm)
		i->driver->destroy(i->vm);
	region_finish(&i->ram);
	close_fd(&i->console);
	close_fd(&i->log);
	if (i->dir >= 0)
		remove_tree(p->dir, i->name);
	close_fd(&i->dir);
	free(i);
	signal_emit(&p->all->listeners);
}

void pool_release(struct idle *i)
{
	i->vm = NULL;
	i->ram = (struct region){ .fd = -1 };
	i->console = i->log = -1;
	idle_free(i);
}

void pool_discard(struct idle *i)
{
	i->discarded = true;
	if (i->dead)
		idle_free(i);
	else if (i->vm)
		i->driver->kill(i->vm);
}

static void refill(struct pool *p);

static void on_answered(struct vm *vm, const struct failure *why, void *data)
{
	struct idle *i = data;

	if (why && !vm->process.pid) {
		log_warn("no VMM can be kept waiting: %s", why->text);
		i->dead = true;
		i->pool->driver = NULL; /* not again before somebody asks */
		idle_free(i);
		return;
	}
	i->ready = !why;
	refill(i->pool);
}

static void on_exited(struct vm *vm, const siginfo_t *how, void *data)
{
	struct idle *i = data;
	char text[96];

	(void)vm;
	i->dead = true;
	if (!i->discarded) {
		log_warn("a VMM that waited %s", process_exit_text(how, text, sizeof text));
		i->pool->driver = NULL;
	}
	if (i->discarded || !i->taken)
		idle_free(i);
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
		log_warn("no VMM can be kept waiting: %s", i->why.text);
	i->pool->driver = NULL;
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
	i->ram.fd = i->dir = i->console = i->log = -1;
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
	unsigned int fitting, starting;
	struct idle *other; /* the oldest that waits for another shape */
};

static struct census take_census(const struct pool *p)
{
	struct census c = { 0 };
	struct idle *i;

	list_for_each(i, &p->members, link) {
		if (i->taken || i->discarded)
			continue;
		c.starting += !i->ready;
		if (p->driver && fits(i, p->driver, p->binary, &p->shape))
			c.fitting++;
		else if (!c.other && i->ready)
			c.other = i;
	}
	return c;
}

static void refill(struct pool *p)
{
	uint64_t want = config_number(&p->all->config, CONFIG_POOL);
	struct census c = take_census(p);

	if (p->ending || !p->driver)
		return;
	if (c.other)
		pool_discard(c.other);
	if (scarce())
		return;
	for (; c.fitting < want && c.starting < STARTS_AT_ONCE; c.fitting++, c.starting++)
		make(p);
}

void pool_want(struct pool *p, const struct driver *driver, const char *binary, const struct recipe *recipe)
{
	p->driver = driver;
	p->shape = *recipe;
	snprintf(p->binary, sizeof p->binary, "%s", binary);
	refill(p);
}

struct idle *pool_take(struct pool *p, const struct driver *driver, const char *binary, const struct recipe *recipe)
{
	struct idle *i;

	list_for_each(i, &p->members, link) {
		if (i->taken || !i->ready || i->dead || i->discarded || !fits(i, driver, binary, recipe))
			continue;
		i->taken = true;
		p->hits++;
		return i;
	}
	p->misses++;
	return NULL;
}

void pool_end(struct pool *p)
{
	struct idle *i;

	p->ending = true;
	list_for_each(i, &p->members, link)
		if (!i->taken && !i->discarded)
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

void pool_count(const struct pool *p, unsigned int *ret_waiting, uint64_t *ret_hits, uint64_t *ret_misses)
{
	struct idle *i;

	*ret_waiting = 0;
	list_for_each(i, &p->members, link)
		*ret_waiting += i->ready && !i->taken && !i->discarded;
	*ret_hits = p->hits;
	*ret_misses = p->misses;
}
