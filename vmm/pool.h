/* SPDX-License-Identifier: Apache-2.0
 *
 * VMMs that wait, started in the background and of two kinds. An idle one is good for any snapshot of its shape (driver, binary, machine, CPU, acceleration, RAM size,
 * devices: all that can't change once it runs). A loaded one has the guest of a snapshot that is in demand, stopped. One that was never given a guest to run ends
 * with the daemon. Loop only. */
#ifndef FORKFS_POOL_H
#define FORKFS_POOL_H

#include <stdbool.h>

#include "vmm/cgroup.h"
#include "vmm/loading.h"

struct forks;
struct pool;

/* One that waits. Who takes it owns it, and what is in it. */
struct idle {
	struct list link;
	struct pool *pool;
	struct job job;
	struct loading loading;
	const struct driver *driver;
	struct driver_program program;
	struct recipe shape;
	struct origin *origin;  /* whose guest it has, or is being given; NULL: it is idle */
	struct vm *vm;
	struct region ram;      /* idle: its own, empty, shared; loaded: the guest's */
	struct paging *paging;  /* loaded: who serves its pages, or NULL */
	char name[32];
	uid_t uid;
	int dir;             /* O_PATH: with qmp, console, console.txt, log.txt as a fork's directory */
	int console, log;
	char group[40];      /* its control group, "" none */
	struct cgroup_limits limits;
	int groups[CGROUP_PLACES];
	bool ready;          /* it waits */
	bool dead;           /* its process has ended */
	bool discarded;
	struct failure why;
};

int pool_create(struct pool **ret, struct forks *all);

/* Discards all that wait and makes no more; pool_gone() when the last process is, which forks->listeners tell. */
void pool_end(struct pool *pool);
bool pool_gone(const struct pool *pool);
void pool_destroy(struct pool *pool);

/* One that has this very guest (its `origin` is set then), or else one that can be given it, or NULL. */
struct idle *pool_take(struct pool *pool, const struct origin *o);

/* This snapshot is in demand: up to config/pool VMMs of its shape are made to wait, in the background, and up to config/pool_loaded are given its guest. What was in
 * demand long ago makes room. */
void pool_want(struct pool *pool, struct origin *o);

/* Gives up all that wait: guests need the memory. Returns the bytes that will be free when their processes are gone. */
uint64_t pool_yield(struct pool *pool);

/* Nobody will ask for this snapshot any more. */
void pool_forget(struct pool *pool, const struct snapshot *s);

/* Ends one that was taken and is not needed; it is freed when its process is gone. */
void pool_discard(struct idle *i);

/* The vm, ram, records and uid of one that was taken went to a fork: gives back the rest, but for its directory. */
void pool_empty(struct idle *i);

/* Removes and frees what is left of one that was emptied. Wakes a worker: not while somebody waits for a guest. */
void pool_release(struct idle *i);

bool pool_has_uid(const struct pool *pool, uid_t uid);

struct pool_counts {
	unsigned int idle, loaded;           /* that wait */
	uint64_t bytes;                      /* that they take */
	uint64_t hits, loaded_hits, misses;  /* restores that found one; of these a loaded one; that found none */
};

void pool_count(const struct pool *pool, struct pool_counts *ret);

#endif
