/* SPDX-License-Identifier: Apache-2.0
 *
 * Settings: one value a key, checked when it is set. The daemon has all of them; a fork has those that concern it, copied from the daemon's when
 * it is made. */
#ifndef FORKFS_CONFIG_H
#define FORKFS_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/failure.h"

enum config_id {
	/* a fork's, and the default for new ones */
	CONFIG_VMM,
	CONFIG_MACHINE,
	CONFIG_MEMORY_BACKEND,
	CONFIG_FILL,
	CONFIG_WORKING_SET,
	CONFIG_SNAPSHOT,
	CONFIG_CLOCK,
	CONFIG_NETWORK,
	CONFIG_ACCEL,
	CONFIG_MEM_WRITE,
	CONFIG_CONSOLE_MAX,
	CONFIG_TIMEOUT,
	/* the daemon's alone */
	CONFIG_FORKS_MAX,
	CONFIG_MEMORY_MAX,
	CONFIG_USER_FORKS_MAX,
	CONFIG_USER_MEMORY_MAX,
	CONFIG_VMM_MEMORY_MAX,
	CONFIG_VMM_CPU_MAX,
	CONFIG_VMM_PIDS_MAX,
	CONFIG_UIDS,
	CONFIG_SNAPSHOT_DIR,
	CONFIG_DISK_DIR,
	CONFIG_QEMU,
	CONFIG_FIRECRACKER,
	CONFIG_EVENTS_MAX,
	CONFIG_POOL,
	CONFIG_POOL_LOADED,
	CONFIG_POOL_MEMORY,
	CONFIG_TEMPLATES_MAX,
	CONFIG_COUNT,
};

#define CONFIG_FORK_COUNT (CONFIG_TIMEOUT + 1)

struct config_key {
	const char *name;
	const char *fallback; /* the value when nobody set one */
	const char *help;     /* a line: what it means, its values, its unit */
	/* Returns 0, or a negative errno with a sentence. */
	int (*check)(const char *value, struct failure *why);
};

extern const struct config_key config_keys[CONFIG_COUNT];

struct config {
	char *value[CONFIG_COUNT]; /* NULL: the fallback */
};

/* The key of that name, or -1. */
int config_find(const char *name);

const char *config_get(const struct config *c, enum config_id id);

/* For keys whose value is a number. */
uint64_t config_number(const struct config *c, enum config_id id);

/* Returns 0; -EINVAL with a sentence that names the key and what it takes; -EOPNOTSUPP a value that can't be had yet; -ENOMEM. */
int config_set(struct config *c, enum config_id id, const char *value, struct failure *why);

/* Gives `to`, zeroed, the first `n` of `from`: CONFIG_FORK_COUNT, a fork's part, or CONFIG_COUNT. Returns 0 or -ENOMEM. */
int config_copy(struct config *to, const struct config *from, int n);
void config_finish(struct config *c);

/* What CONFIG_VMM_… allow a VMM. Returns whether there is any limit. */
struct cgroup_limits;
bool config_vmm_limits(const struct config *c, struct cgroup_limits *ret);

/* The first and last of CONFIG_UIDS. */
void config_uids(const struct config *c, uint32_t *ret_first, uint32_t *ret_last);

#endif
