/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pool_private.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/log.h"
#include "vmm/host.h"

#define STARTS_AT_ONCE 2
#define DEMANDS_MAX 8
#define LOOK_USEC 2000000
#define REFILL_USEC 10000 /* whoever was answered goes first: starting VMMs takes a processor or two */
#define STARTED_BYTES (20ull << 20) /* what a VMM will take that was only just started */
#define SCARCE 10 /* a tenth of the memory is left */
#define PLENTY 8
#define DEMAND_USEC 60000000 /* how long after its last restore a snapshot counts as one in demand */

/* A snapshot that was restored lately. */
struct demand {
	struct list link;
	struct origin *origin;
	uint64_t until;
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
	sd_event_source_disable_unref(p->look);
	sd_event_source_disable_unref(p->refill);
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

static bool fits(const struct idle *i, const struct driver *driver, const struct driver_program *program, const struct recipe *recipe)
{
	return i->driver == driver && driver_program_same(&i->program, program) && same_shape(&i->shape, recipe);
}

/* That it has ended may not have been told yet. */
static bool is_alive(const struct idle *i)
{
	struct pollfd end = { .fd = i->vm->process.pidfd, .events = POLLIN };

	return poll(&end, 1, 0) == 0;
}

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

void pool_give_up(struct pool *p, const char *why)
{
	log_warn("no VMM can be kept waiting: %s", why);
	p->driver = NULL;
}

void pool_not_loaded(struct pool *p, struct idle *i)
{
	struct demand *d;

	list_for_each(d, &p->demands, link)
		if (origin_same(d->origin, i->origin)) {
			end_demand(p, d); /* with this one */
			return;
		}
	pool_discard(i);
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
		if (p->driver && fits(i, p->driver, &p->program, &p->shape)) {
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

/* What is loaded costs most and goes first, that of the oldest demand; then what is idle. Returns false where nothing is left to give up. */
static bool shrink(struct pool *p)
{
	struct demand *oldest = list_last(&p->demands, struct demand, link);
	struct idle *i;

	if (oldest) {
		end_demand(p, oldest);
		return true;
	}
	list_for_each(i, &p->members, link)
		if (member_waits(i)) {
			pool_discard(i);
			return true;
		}
	return false;
}

/* Memory is for guests first. It has to become plenty again before there is a pool again. */
static bool is_scarce(struct pool *p)
{
	uint64_t available, total;

	host_memory(&available, &total);
	p->scarce = available < total / (p->scarce ? PLENTY : SCARCE);
	return p->scarce;
}

static uint64_t pool_bytes(const struct pool *p)
{
	uint64_t sum = 0;
	struct idle *i;

	list_for_each(i, &p->members, link) {
		uint64_t n = i->discarded || i->dead ? 0 : member_bytes(i);

		sum += i->discarded || i->dead || n > STARTED_BYTES ? n : STARTED_BYTES;
	}
	return sum;
}

static bool has_room(const struct pool *p, uint64_t more)
{
	uint64_t max = config_number(&p->all->config, CONFIG_POOL_MEMORY) << 20;

	return !max || pool_bytes(p) + more <= max;
}

/* What a guest takes that is loaded and never ran. */
static uint64_t loaded_bytes(const struct origin *o)
{
	if (o->region != REGION_SHARED)
		return 0;
	if (o->fill != FILL_ONDEMAND)
		return o->snapshot->memory_bytes;
	return o->set ? extents_bytes(&o->set->pages) : 0;
}

/* One at a time: guests that run are not to wait for those that don't. */
static void refill_loaded(struct pool *p, struct census c)
{
	uint64_t want = config_number(&p->all->config, CONFIG_POOL_LOADED);
	struct demand *d;

	list_for_each(d, &p->demands, link) {
		struct origin *o = d->origin;

		if (count_loaded(p, o) >= want || c.loading || !c.spare || !fits(c.spare, o->driver, &o->program, &o->snapshot->recipe) ||
		    !has_room(p, loaded_bytes(o)))
			continue;
		member_load(c.spare, o);
		return;
	}
}

static bool keeps_something(const struct pool *p)
{
	unsigned int templates, used;
	uint64_t bytes;

	template_count(&templates, &used, &bytes);
	return templates || !list_empty(&p->members);
}

static int on_look(sd_event_source *source, uint64_t usec, void *data)
{
	struct pool *p = data;

	pool_refill(p);
	if (!keeps_something(p)) {
		p->look = sd_event_source_disable_unref(p->look);
		return 0;
	}
	sd_event_source_set_time(source, usec + LOOK_USEC);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

static void watch_memory(struct pool *p)
{
	if (!p->look)
		sd_event_add_time_relative(p->all->event, &p->look, CLOCK_MONOTONIC, LOOK_USEC, LOOK_USEC / 4, on_look, p);
}

/* There may be more than is wanted since the settings were changed. */
static void trim(struct pool *p)
{
	uint64_t idle = config_number(&p->all->config, CONFIG_POOL), loaded = config_number(&p->all->config, CONFIG_POOL_LOADED), n;
	struct demand *d;
	struct idle *i;

	list_for_each(d, &p->demands, link) {
		n = 0;
		list_for_each(i, &p->members, link)
			if (!i->discarded && !i->dead && i->origin && origin_same(i->origin, d->origin) && ++n > loaded)
				pool_discard(i);
		if (!loaded)
			end_demand(p, d);
	}
	n = 0;
	list_for_each(i, &p->members, link)
		if (!i->discarded && !i->dead && !i->origin && fits(i, p->driver, &p->program, &p->shape) && ++n > idle)
			pool_discard(i);
}

void pool_refill(struct pool *p)
{
	uint64_t want = config_number(&p->all->config, CONFIG_POOL);
	bool scarce = is_scarce(p);
	struct census c;

	while ((scarce || !has_room(p, 0)) && shrink(p))
		;
	if (scarce)
		template_forget(UINT64_MAX);
	c = take_census(p);
	if (p->ending || !p->driver || scarce)
		return;
	if (c.other)
		pool_discard(c.other);
	trim(p);
	refill_loaded(p, take_census(p));
	c = take_census(p);
	for (; c.fitting < want && c.starting < STARTS_AT_ONCE && has_room(p, STARTED_BYTES); c.fitting++, c.starting++)
		member_make(p);
}

uint64_t pool_yield(struct pool *p)
{
	uint64_t bytes = pool_bytes(p);

	while (shrink(p))
		;
	return bytes;
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

static int on_refill(sd_event_source *source, uint64_t usec, void *data)
{
	struct pool *p = data;

	(void)source;
	(void)usec;
	p->refill = sd_event_source_disable_unref(p->refill);
	pool_refill(p);
	watch_memory(p);
	return 0;
}

static void refill_soon(struct pool *p)
{
	if (!p->refill && sd_event_add_time_relative(p->all->event, &p->refill, CLOCK_MONOTONIC, REFILL_USEC, 1000, on_refill, p) < 0)
		pool_refill(p);
}

void pool_want(struct pool *p, struct origin *o)
{
	uint64_t loaded = config_number(&p->all->config, CONFIG_POOL_LOADED);
	struct demand *d;

	p->driver = o->driver;
	p->shape = o->snapshot->recipe;
	p->program = o->program;
	list_for_each(d, &p->demands, link)
		if (origin_same(d->origin, o)) {
			p->demand_count--;
			drop_demand(d);
			break;
		}
	/* A clock that is moved on when the guest is loaded would be late by as long as it waits; a tap is one fork's. */
	if (loaded && !o->realtime && !o->network && !p->ending)
		add_demand(p, o);
	if (p->demand_count > DEMANDS_MAX)
		end_demand(p, list_last(&p->demands, struct demand, link));
	expire(p);
	refill_soon(p);
	watch_memory(p);
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
		if (member_waits(i) && i->origin && origin_same(i->origin, o) && is_alive(i))
			return i;
	return NULL;
}

static struct idle *find_idle(const struct pool *p, const struct origin *o)
{
	struct idle *i;

	list_for_each(i, &p->members, link)
		if (member_waits(i) && !i->origin && fits(i, o->driver, &o->program, &o->snapshot->recipe) && is_alive(i))
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
	p->look = sd_event_source_disable_unref(p->look);
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
	ret->bytes = pool_bytes(p);
	list_for_each(i, &p->members, link) {
		ret->idle += member_waits(i) && !i->origin;
		ret->loaded += member_waits(i) && i->origin;
	}
}
