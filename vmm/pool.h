/* SPDX-License-Identifier: Apache-2.0
 *
 * VMMs that wait for a guest: started in the background, good for any snapshot of their shape (driver, binary, machine, CPU, acceleration, RAM size, devices: all that
 * can't change once it runs). One that was never given a guest ends with the daemon. Loop only. */
#ifndef FORKFS_POOL_H
#define FORKFS_POOL_H

#include <stdbool.h>

#include "vmm/driver.h"

struct forks;
struct pool;

/* One that waits. Who takes it owns it, and what is in it. */
struct idle {
	struct list link;
	struct pool *pool;
	struct job job;
	const struct driver *driver;
	char binary[256];
	struct recipe shape;
	struct vm *vm;
	struct region ram;   /* its own, empty, shared */
	char name[32];
	uid_t uid;
	int dir;             /* O_PATH: with qmp, console, console.txt, log.txt as a fork's directory */
	int console, log;
	bool ready;          /* it waits */
	bool dead;           /* its process has ended */
	bool taken, discarded;
	struct failure why;
};

int pool_create(struct pool **ret, struct forks *all);

/* Discards all that wait and makes no more; pool_gone() when the last process is, which forks->listeners tell. */
void pool_end(struct pool *pool);
bool pool_gone(const struct pool *pool);
void pool_destroy(struct pool *pool);

/* One that fits, or NULL. */
struct idle *pool_take(struct pool *pool, const struct driver *driver, const char *binary, const struct recipe *recipe);

/* This shape is in demand: up to config/pool of it are made to wait, in the background. Others make room. */
void pool_want(struct pool *pool, const struct driver *driver, const char *binary, const struct recipe *recipe);

/* Ends one that was taken and is not needed; it is freed when its process is gone. */
void pool_discard(struct idle *i);

/* Frees what is left of one whose vm, ram, records and uid went to a fork. */
void pool_release(struct idle *i);

bool pool_has_uid(const struct pool *pool, uid_t uid);

/* How many wait, and how many were handed out or asked for in vain. */
void pool_count(const struct pool *pool, unsigned int *ret_waiting, uint64_t *ret_hits, uint64_t *ret_misses);

#endif
