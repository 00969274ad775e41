/* SPDX-License-Identifier: Apache-2.0
 *
 * Between pool.c, which decides who waits for what, and pool_member.c, which makes, loads and ends one of those. Nobody else includes it. */
#ifndef FORKFS_POOL_PRIVATE_H
#define FORKFS_POOL_PRIVATE_H

#include "vmm/fork_private.h"
#include "vmm/pool.h"

struct pool {
	struct forks *all;
	struct list members; /* starting, waiting or ending: all there are */
	int dir;             /* O_PATH, their directories' parent */
	bool ending;
	bool scarce;         /* memory was, when it was looked at last */
	struct pool_counts counts; /* but for what waits */
	struct list demands;       /* the latest first */
	unsigned int demand_count;
	sd_event_source *timer;    /* the end of the earliest demand */
	sd_event_source *refill;   /* a while after a restore */
	sd_event_source *look;     /* while something is kept: whether memory is scarce */
	/* the shape of the latest */
	const struct driver *driver;
	struct driver_program program;
	struct recipe shape;
};

/* pool_member.c: begins to start one of the pool's shape. Where there is no memory for it nothing happens. */
void member_make(struct pool *p);

/* Begins to give one that is idle the guest of `o`. */
void member_load(struct idle *i, struct origin *o);

static inline bool member_waits(const struct idle *i)
{
	return i->ready && !i->dead && !i->discarded;
}

/* Bytes of memory that are its own alone. */
uint64_t member_bytes(const struct idle *i);

/* pool.c: one waits now, or is gone: makes what is wanted. */
void pool_refill(struct pool *p);

/* None can be made: not again before somebody asks. */
void pool_give_up(struct pool *p, const char *why);

/* Its guest can't be loaded: a snapshot like that is one for whoever restores it to hear of. Discards it. */
void pool_not_loaded(struct pool *p, struct idle *i);

#endif
