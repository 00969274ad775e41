/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "vmm/cgroup.h"

static int one_of(const char *value, const char *const *words, struct failure *why)
{
	for (size_t i = 0; words[i]; i++)
		if (!strcmp(words[i], value))
			return 0;
	return fail(why, EINVAL, "\"%s\" is not among its values", value);
}

#define CHOICE(name, ...)                                                     \
	static int check_##name(const char *value, struct failure *why)       \
	{                                                                     \
		static const char *const words[] = { __VA_ARGS__, NULL };     \
		return one_of(value, words, why);                             \
	}

CHOICE(vmm, "auto", "firecracker", "qemu", "null")
CHOICE(machine, "microvm", "pc")
CHOICE(accel, "auto", "kvm", "tcg")
CHOICE(flag, "0", "1")
CHOICE(backend, "memfd-shared", "memfd-private", "file", "userfault")
CHOICE(fill, "auto", "ondemand", "background", "eager")
CHOICE(working_set, "off", "record", "use")
CHOICE(snapshot, "auto", "live", "stop")
CHOICE(clock, "snapshot", "realtime")

static int number(const char *value, uint64_t min, uint64_t max, struct failure *why)
{
	uint64_t n = 0;

	for (const char *at = value; *at; at++) {
		if (*at < '0' || *at > '9' || at - value > 18)
			return fail(why, EINVAL, "\"%s\" is not a number from %" PRIu64 " to %" PRIu64, value, min, max);
		n = n * 10 + (uint64_t)(*at - '0');
	}
	if (!*value || n < min || n > max)
		return fail(why, EINVAL, "\"%s\" is not a number from %" PRIu64 " to %" PRIu64, value, min, max);
	return 0;
}

#define NUMBER(name, min, max)                                                \
	static int check_##name(const char *value, struct failure *why)       \
	{                                                                     \
		return number(value, min, max, why);                          \
	}

NUMBER(console_max, 4096, 1u << 30)
NUMBER(timeout, 1, 3600000)
NUMBER(forks_max, 0, 1000000)
NUMBER(memory_max, 0, 1ull << 40)
NUMBER(events_max, 16, 1000000)
NUMBER(pool, 0, 1000)

static int check_uids(const char *value, struct failure *why)
{
	unsigned int first, last;
	int end = 0;

	if (strspn(value, "0123456789-") != strlen(value) || sscanf(value, "%u-%u%n", &first, &last, &end) != 2 || value[end] || end > 21)
		return fail(why, EINVAL, "\"%s\" is not FIRST-LAST, two user ids", value);
	if (first < 1000 || last < first || last > 4294900000u)
		return fail(why, EINVAL, "\"%s\": a range of user ids is 1000 or more, first before last", value);
	return 0;
}

static int check_path(const char *value, struct failure *why)
{
	if (*value != '/')
		return fail(why, EINVAL, "\"%s\" is not an absolute path", value);
	return 0;
}

static int check_snapshot_dir(const char *value, struct failure *why)
{
	return strcmp(value, "memory") ? check_path(value, why) : 0;
}

static int check_disk_dir(const char *value, struct failure *why)
{
	return strcmp(value, "none") ? check_path(value, why) : 0;
}

/* An interface's name has no slash, colon or white space, and 15 bytes; how many the fork's id has isn't known yet. */
static int check_network(const char *value, struct failure *why)
{
	static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-%";
	const char *id = strchr(value, '%');

	if (!*value || strspn(value, letters) != strlen(value) || strlen(value) > 15 || (id && strchr(id + 1, '%')))
		return fail(why, EINVAL, "\"%s\" is neither none nor an interface's name, with one %% at most", value);
	return 0;
}

static int check_group(const char *value, enum cgroup_controller c, const char *what, struct failure *why)
{
	int r = number(value, 0, 1u << 30, why);

	if (r == 0 && strcmp(value, "0") && !cgroup_can(c))
		return fail(why, EOPNOTSUPP, "this host has no control group for %s that the daemon could use (see doctor)", what);
	return r;
}

static int check_vmm_memory(const char *value, struct failure *why)
{
	return check_group(value, CGROUP_MEMORY, "memory", why);
}

static int check_vmm_cpu(const char *value, struct failure *why)
{
	return check_group(value, CGROUP_CPU, "processor time", why);
}

static int check_vmm_pids(const char *value, struct failure *why)
{
	return check_group(value, CGROUP_PIDS, "processes", why);
}

static int check_program(const char *value, struct failure *why)
{
	if (!*value || (strchr(value, '/') && *value != '/'))
		return fail(why, EINVAL, "\"%s\" is neither an absolute path nor a program's name", value);
	return 0;
}

const struct config_key config_keys[CONFIG_COUNT] = {
	[CONFIG_VMM] = { "vmm", "auto", "who runs the guest: auto, firecracker, qemu, null", check_vmm },
	[CONFIG_MACHINE] = { "machine", "microvm", "QEMU's machine for a boot: microvm, pc", check_machine },
	[CONFIG_MEMORY_BACKEND] = { "memory_backend", "memfd-shared", "where the guest's RAM is: memfd-shared, memfd-private, file, userfault", check_backend },
	[CONFIG_FILL] = { "fill", "auto", "how a memfd-shared child is filled: auto, ondemand, background, eager", check_fill },
	[CONFIG_WORKING_SET] = { "working_set", "use", "pages placed before they are asked for: off, record (learn them), use (learn them once)", check_working_set },
	[CONFIG_SNAPSHOT] = { "snapshot", "auto", "how a running guest is snapshotted: auto, live (or not at all), stop (until its memory is copied)", check_snapshot },
	[CONFIG_CLOCK] = { "clock", "snapshot", "what time it is for a restored guest: snapshot (it goes on from there), realtime (Firecracker: the host's)", check_clock },
	[CONFIG_NETWORK] = { "network", "none", "what a restored guest's network interface leads to: none, or a tap of this host, whose name may have a % for the fork's id", check_network },
	[CONFIG_ACCEL] = { "accel", "auto", "auto, kvm, tcg; auto takes KVM where it really runs guests", check_accel },
	[CONFIG_MEM_WRITE] = { "mem_write", "0", "1: mem may be written", check_flag },
	[CONFIG_CONSOLE_MAX] = { "console_max", "1048576", "bytes of the console's record that are kept", check_console_max },
	[CONFIG_TIMEOUT] = { "timeout", "30000", "milliseconds that a VMM has for an answer", check_timeout },
	[CONFIG_FORKS_MAX] = { "forks_max", "0", "how many forks there may be, 0: no limit", check_forks_max },
	[CONFIG_MEMORY_MAX] = { "memory_max", "0", "MiB of RAM that all guests together may have, 0: no limit", check_memory_max },
	[CONFIG_USER_FORKS_MAX] = { "user_forks_max", "0", "how many forks each user may have, but for root and who mounted, 0: no limit", check_forks_max },
	[CONFIG_USER_MEMORY_MAX] = { "user_memory_max", "0", "MiB of RAM that the guests of each user, but for root and who mounted, may have, 0: no limit", check_memory_max },
	[CONFIG_VMM_MEMORY_MAX] = { "vmm_memory_max", "0", "MiB that one VMM may take, its guest's RAM among it, 0: no limit", check_vmm_memory },
	[CONFIG_VMM_CPU_MAX] = { "vmm_cpu_max", "0", "percent of one processor that one VMM may have, 0: no limit", check_vmm_cpu },
	[CONFIG_VMM_PIDS_MAX] = { "vmm_pids_max", "0", "how many threads one VMM may have, 0: no limit", check_vmm_pids },
	[CONFIG_UIDS] = { "uids", "2000000000-2000065535", "FIRST-LAST, the user ids that VMMs run as", check_uids },
	[CONFIG_SNAPSHOT_DIR] = { "snapshot_dir", "memory", "where snapshots/ are kept: memory, or an absolute path", check_snapshot_dir },
	[CONFIG_DISK_DIR] = { "disk_dir", "none", "where each guest has its own copy of a disk that it writes: an absolute path; none: such a guest is refused", check_disk_dir },
	[CONFIG_QEMU] = { "qemu", "qemu-system-x86_64", "QEMU: a path, or a name looked up in PATH", check_program },
	[CONFIG_FIRECRACKER] = { "firecracker", "firecracker", "Firecracker: a path, or a name looked up in PATH; by default what $FORKFS_FIRECRACKER says", check_program },
	[CONFIG_EVENTS_MAX] = { "events_max", "10000", "how many events are kept", check_events_max },
	[CONFIG_POOL] = { "pool", "10", "how many VMMs wait for a guest, 0: none", check_pool },
	[CONFIG_POOL_LOADED] = { "pool_loaded", "2", "how many of them are given the guest of a snapshot that is in demand, 0: none", check_pool },
	[CONFIG_POOL_MEMORY] = { "pool_memory", "1024", "MiB that all VMMs that wait may take together, 0: no limit", check_memory_max },
	[CONFIG_TEMPLATES_MAX] = { "templates_max", "4096", "MiB of templates that are kept though nobody uses them", check_memory_max },
};

int config_find(const char *name)
{
	for (int i = 0; i < CONFIG_COUNT; i++)
		if (!strcmp(config_keys[i].name, name))
			return i;
	return -1;
}

const char *config_get(const struct config *c, enum config_id id)
{
	const char *named = id == CONFIG_FIRECRACKER && !c->value[id] ? getenv("FORKFS_FIRECRACKER") : NULL;

	if (named && check_program(named, NULL) == 0)
		return named;
	return c->value[id] ?: config_keys[id].fallback;
}

uint64_t config_number(const struct config *c, enum config_id id)
{
	return strtoull(config_get(c, id), NULL, 10);
}

int config_set(struct config *c, enum config_id id, const char *value, struct failure *why)
{
	const struct config_key *key = &config_keys[id];
	int r = key->check(value, why);
	char *copy;

	if (r < 0) {
		fail_within(why, "config/%s (%s)", key->name, key->help);
		return r;
	}
	copy = strdup(value);
	if (!copy)
		return fail(why, ENOMEM, "config/%s: no memory", key->name);
	free(c->value[id]);
	c->value[id] = copy;
	return 0;
}

int config_copy(struct config *to, const struct config *from, int n)
{
	for (int i = 0; i < n; i++) {
		if (!from->value[i])
			continue;
		to->value[i] = strdup(from->value[i]);
		if (!to->value[i]) {
			config_finish(to);
			return -ENOMEM;
		}
	}
	return 0;
}

void config_finish(struct config *c)
{
	for (int i = 0; i < CONFIG_COUNT; i++)
		free_ptr(&c->value[i]);
}

bool config_vmm_limits(const struct config *c, struct cgroup_limits *ret)
{
	*ret = (struct cgroup_limits){ config_number(c, CONFIG_VMM_MEMORY_MAX) << 20, config_number(c, CONFIG_VMM_CPU_MAX), config_number(c, CONFIG_VMM_PIDS_MAX) };
	return ret->memory || ret->cpu || ret->pids;
}

void config_uids(const struct config *c, uint32_t *ret_first, uint32_t *ret_last)
{
	sscanf(config_get(c, CONFIG_UIDS), "%" SCNu32 "-%" SCNu32, ret_first, ret_last);
}
