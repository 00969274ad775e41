/* SPDX-License-Identifier: Apache-2.0
 *
 * A root directory that holds what a process may open by name and nothing else: a mount namespace of its own with a tmpfs, bind mounts (mount(8), --bind) and a /proc of
 * nobody else's processes. */
#ifndef FORKFS_MINIMAL_ROOT_H
#define FORKFS_MINIMAL_ROOT_H

#include <stdbool.h>

#include "vmm/confinement.h"

struct minimal_root;

/* Whether this process may make one. Tried once, in a process of its own. Any thread; may block. FORKFS_NO_MINIMAL_ROOT in the environment says no. */
bool minimal_root_can(void);

/* Looks up what is there of `list`; entries by descriptor need no name and are passed over. Any thread; may block. Returns 0 and in *ret what is to be given to
 * minimal_root_free(), or a negative errno. */
int minimal_root_make(struct minimal_root **ret, const struct allow *list, size_t n, struct failure *why);
void minimal_root_free(struct minimal_root *r);

/* Makes it this process's, which must have the privilege still and not share its directories (CLONE_FS). Only makes system calls. Returns NULL, or which step
 * failed, with errno. */
const char *minimal_root_enter(const struct minimal_root *r);

#endif
