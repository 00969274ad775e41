/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory without a name outlives the daemon: a process that does nothing but have it open, and a record of that process, for a successor to take it from (open_files.h). Safe from any
 * thread, unless said. */
#ifndef FORKFS_KEEPER_H
#define FORKFS_KEEPER_H

#include "vmm/base/failure.h"
#include "vmm/base/jobs.h"

struct keeper;

/* Whose workers end keepers; NULL: whoever lets go of one. Loop, while nobody else is there. */
void keepers_end_by(struct jobs *jobs);

/* Where records are: the directory "kept" below `state`, whose path whoever looks at processes sees beside the keeper's name; both are borrowed. Returns 0 or a negative
 * errno. Loop, before any is started. */
int keepers_open(int state, const char *path);
void keepers_close(void);

/* Has a process keep `fd` from now on. Worker: blocks until it does. Returns 0 or a negative errno and nothing is left. */
int keeper_start(struct keeper **ret, int fd, struct failure *why);

/* Ends it, removes its record. NULL is accepted. */
void keeper_end(struct keeper *k);

/* From now on ending one leaves it to the next daemon. */
void keepers_leave(void);

/* Calls `found` with each of a former daemon's and the descriptor that it keeps, read-only, both the callee's; what is left of those that have ended goes. Loop. */
void keepers_adopt(void (*found)(struct keeper *k, int fd, void *data), void *data);

#endif
