/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the daemon is among control groups: version 2 where that has the controller, else version 1's hierarchies, each of which has its own. Any thread. */
#ifndef FORKFS_CGROUP_PLACE_H
#define FORKFS_CGROUP_PLACE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cgroup_controller { CGROUP_MEMORY, CGROUP_CPU, CGROUP_PIDS, CGROUP_CONTROLLERS };

extern const char *const cgroup_names[CGROUP_CONTROLLERS];

struct cgroup_place {
	char path[PATH_MAX / 2]; /* of the group that the daemon was in when it was first looked at, or of the one that is delegated to it */
	size_t mount;            /* bytes of the path that are the hierarchy's mount point */
	bool v2, ours;           /* it may have groups of ours below it */
};

/* NULL: this host has no such controller. Looked at once. */
const struct cgroup_place *cgroup_place(enum cgroup_controller c);

/* Whether there is one, and it is ours. */
bool cgroup_can(enum cgroup_controller c);

/* The first line of the file `name` in the group at `dir`. */
bool cgroup_read_line(const char *dir, const char *name, char *ret, size_t n);
bool cgroup_has_word(const char *list, const char *word, const char *separators);

/* What the limits on the group that the daemon is in now, and on those above it, leave in bytes, with what the kernel can take back, and the least of these limits; UINT64_MAX: there is none. */
void cgroup_memory(uint64_t *ret_available, uint64_t *ret_limit);

#endif
