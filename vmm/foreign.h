/* SPDX-License-Identifier: Apache-2.0
 *
 * Snapshots that forkfs has not written: a directory with a device state and a memory file as Firecracker writes them, under any names; and a forkd tag directory. */
#ifndef FORKFS_FOREIGN_H
#define FORKFS_FOREIGN_H

#include "vmm/caller.h"
#include "vmm/recipe.h"

struct foreign {
	int vmstate, memory; /* readable; the caller's to close */
	struct recipe recipe; /* what can be known: the members' names and sizes, RAM */
};

/* Finds the members in the directory `dir` (borrowed), as the caller. `tag`: the JSON of a forkd tag, n bytes; NULL: there is none, and the state is told by its first bytes.
 *
 * 64 regular files are looked at, no more. Worker. Returns 0; -ENOENT there is no state here, or no such file; -EINVAL which file is what can't be told, or the state is none, truncated or corrupt; -EACCES; another
 * negative errno. */
int foreign_find(struct foreign *ret, const struct caller *c, int dir, const char *tag, size_t n, struct failure *why);

#endif
