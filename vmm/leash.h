/* SPDX-License-Identifier: Apache-2.0
 *
 * Has the kernel end a process when the daemon ends, until it is let go: a socket that the process inherits whose end is a SIGKILL to it (O_ASYNC, F_SETSIG). It takes no
 * part in that; unlike by PR_SET_PDEATHSIG it can be let go from outside. */
#ifndef FORKFS_LEASH_H
#define FORKFS_LEASH_H

#include <sys/types.h>

#include "vmm/base/failure.h"

struct leash {
	int ours;   /* closes with the daemon; -1 none */
	int theirs; /* to be inherited; what is set on it is set there, too */
};

/* Returns 0 or a negative errno. */
int leash_make(struct leash *l);

/* The process that inherited it ends with the daemon from now on. Returns 0 or a negative errno. */
int leash_hold(struct leash *l, pid_t pid);

/* It doesn't any more; harmless when it never did. */
void leash_release(struct leash *l);

#endif
