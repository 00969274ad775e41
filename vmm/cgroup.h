/* SPDX-License-Identifier: Apache-2.0
 *
 * Limits of a VMM beyond its guest's RAM, by control groups (cgroup_place.h). One group for each VMM, below one of the daemon's. Any thread, unless said. */
#ifndef FORKFS_CGROUP_H
#define FORKFS_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/failure.h"
#include "vmm/base/text.h"
#include "vmm/cgroup_place.h"

#define CGROUP_PLACES 3 /* at most: version 1 has each controller elsewhere */

/* 0: no limit. */
struct cgroup_limits {
	uint64_t memory; /* bytes */
	uint64_t cpu;    /* percent of one processor */
	uint64_t pids;   /* processes and threads */
};

/* "memory (v1), pids (v1); not cpu". */
void cgroup_describe(struct text *t);

/* Whether others' processes are in the daemon's own group of version 2, so that it can't have any below it. As it is now. */
bool cgroup_is_crowded(void);

/* The name of the daemon's own group, below that which it is in; kept. Loop, before any is made. */
void cgroup_set_daemon(const char *name);

/* Makes the group `name` with these limits, at least one of them. Returns 0 and in ret_procs where a process writes "0" to be in it, the caller's to close, -1: none; or a negative errno and
 * nothing is left. */
int cgroup_make(const char *name, const struct cgroup_limits *limits, int ret_procs[CGROUP_PLACES], struct failure *why);

/* Once its processes have ended: waits until the kernel is through with them, a second at most. A worker's task. Harmless where there is none. */
void cgroup_remove(const char *name);

/* Removes all groups of the daemon's that have no process, and its own when none is left. */
void cgroup_sweep(void);

#endif
