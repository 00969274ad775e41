/* SPDX-License-Identifier: Apache-2.0
 *
 * A launch and its children, for the two files that they are in: launch.c decides, child.c takes the steps of one. */
#ifndef FORKFS_LAUNCH_PRIVATE_H
#define FORKFS_LAUNCH_PRIVATE_H

#include "vmm/cgroup.h"
#include "vmm/fork_private.h"
#include "vmm/loading.h"
#include "vmm/pool.h"
#include "vmm/source.h"

enum step { WAITING, PREPARING, STARTING, LOADING, LOADED, RESUMING, RUNNING, ENDING, ENDED };

struct child {
	struct job job;
	struct loading loading;
	struct launch *launch;
	struct fork *fork;
	enum step step;
	uint64_t taken;     /* when it had a VMM that waits */
	struct idle *shell; /* what is left in the pool of the VMM that waited, or NULL */
	bool vm_gone;       /* its process has ended; a worker still has its memory */
	struct region ram;  /* the VMM's own, until it is the guest's */
	/* What the worker makes: */
	int console, log;
	int groups[CGROUP_PLACES];
	uid_t vm_uid;
	/* what it needs of the fork: */
	char name[FORK_ID_MAX + 1];
	char group[40];
	bool limited;
	struct cgroup_limits limits;
	int dir;
	struct failure why;
};

struct launch {
	struct job job;
	struct forks *all;
	struct op *op;
	struct text *ids; /* whose forks were made for this launch; NULL: there was one before */
	uint64_t since;
	uint64_t opened;  /* when the source was */
	uint64_t resumed; /* when the guests were told to run */
	struct source source;
	bool opening;     /* the source is with a worker */
	bool failing;
	struct failure why, open_why; /* open_why is the worker's while it opens */
	unsigned int count, active, loaded, running, ended;
	struct child child[];
};

/* launch.c: the first failure is the one that is told, and ends all; `c` NULL: it is no one child's. */
void launch_fail(struct launch *l, struct child *c, const struct failure *why);

/* Every way into a launch ends here, and only here it goes. */
void launch_check(struct launch *l);

/* The guest is loaded or ready to boot, and stopped. */
void child_loaded(struct child *c);

/* child.c: begins the child's way; its worker comes back by launch_check(). */
void child_prepare(struct child *c);

/* The VMM waits: it gets its guest. */
void child_load(struct child *c);

/* The VMM is ready to boot. */
void child_booted(struct child *c);

/* The VMM's process has ended and nobody has its memory any more. */
void child_gone(struct child *c);

/* Begins the child's end; child_ended() comes at once or later. */
void child_end(struct child *c);
void child_ended(struct child *c);

/* Gives back what it holds. */
void child_finish(struct child *c);

#endif
