/* SPDX-License-Identifier: Apache-2.0
 *
 * A root directory that holds what a process may open by name and nothing else: a mount namespace with a tmpfs, bind mounts (mount(8), --bind) and a /proc of nobody else's
 * processes. Any thread; may block. */
#ifndef FORKFS_MINIMAL_ROOT_H
#define FORKFS_MINIMAL_ROOT_H

#include <stdbool.h>

#include "vmm/confinement.h"

/* Whether this process may make one. Tried once. FORKFS_NO_MINIMAL_ROOT in the environment says no. */
bool minimal_root_can(void);

/* One with what is there of `list`; entries by descriptor need no name and are passed over. Those of one list share it, as long as the files are the same. Returns 0 and in *ret a
 * descriptor of its mount namespace, the caller's, which setns(2) makes a process's that doesn't share its directories (CLONE_FS); or a negative errno. */
int minimal_root_make(int *ret, const struct allow *list, size_t n, struct failure *why);

/* Forgets those that are kept for the next ones; at the end, nobody else is there. */
void minimal_root_forget(void);

#endif
