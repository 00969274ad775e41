/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cgroup_place.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

const char *const cgroup_names[CGROUP_CONTROLLERS] = { "memory", "cpu", "pids" };

static struct cgroup_place place[CGROUP_CONTROLLERS]; /* path "": not here */
static pthread_once_t once = PTHREAD_ONCE_INIT;

bool cgroup_has_word(const char *list, const char *word, const char *separators)
{
	size_t n = strlen(word);

	for (const char *at = list; *at; at += strspn(at, separators)) {
		size_t len = strcspn(at, separators);

		if (len == n && !strncmp(at, word, n))
			return true;
		at += len;
	}
	return false;
}

static FILE *open_file(const char *dir, const char *name)
{
	char path[PATH_MAX];

	return snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path ? fopen(path, "re") : NULL;
}

bool cgroup_read_line(const char *dir, const char *name, char *ret, size_t n)
{
	FILE *f = open_file(dir, name);
	bool got = f && fgets(ret, (int)n, f);

	if (f)
		fclose(f);
	return got;
}

/* The daemon's path in the hierarchy of that controller, "" of version 2's. */
static bool own_path(const char *controller, char *ret, size_t n)
{
	char line[PATH_MAX], *list, *path;
	FILE *f = fopen("/proc/self/cgroup", "re");
	bool found = false;

	while (f && !found && fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = '\0';
		list = strchr(line, ':');
		path = list ? strchr(list + 1, ':') : NULL;
		if (!path)
			continue;
		*path++ = '\0';
		found = *controller ? cgroup_has_word(list + 1, controller, ",") : !list[1];
		if (found)
			snprintf(ret, n, "%s", strcmp(path, "/") ? path : "");
	}
	if (f)
		fclose(f);
	return found;
}

/* systemd.resource-control(5), Delegate=; whoever isn't privileged sees the second only. */
static bool is_delegated(const char *path)
{
	char value[4];

	return (getxattr(path, "trusted.delegate", value, sizeof value) == 1 || getxattr(path, "user.delegate", value, sizeof value) == 1) && *value == '1';
}

/* What systemd makes for a unit is called as the unit is; a subgroup may not be. */
static bool is_of_unit(const char *name)
{
	const char *suffix = strrchr(name, '.');

	return suffix && (!strcmp(suffix, ".service") || !strcmp(suffix, ".scope") || !strcmp(suffix, ".slice"));
}

/* A service's processes may have a group of their own below what is delegated to it (DelegateSubgroup=): else systemd couldn't start them again beside VMs of its that live on. */
static void leave_subgroup(struct cgroup_place *p)
{
	char *slash = strrchr(p->path, '/');

	if (slash <= p->path + p->mount || is_of_unit(slash) || is_delegated(p->path))
		return;
	*slash = '\0';
	if (!is_delegated(p->path))
		*slash = '/';
}

static void consider(enum cgroup_controller c, const char *mount, bool v2)
{
	struct cgroup_place p = { .mount = strlen(mount), .v2 = v2 };
	char own[PATH_MAX / 4], line[1024];

	if (*place[c].path || !own_path(v2 ? "" : cgroup_names[c], own, sizeof own) || snprintf(p.path, sizeof p.path, "%.1000s%s", mount, own) >= (int)sizeof p.path)
		return;
	if (v2)
		leave_subgroup(&p);
	if (access(p.path, F_OK) || (v2 && (!cgroup_read_line(p.path, "cgroup.controllers", line, sizeof line) || !cgroup_has_word(line, cgroup_names[c], " \n"))))
		return;
	p.ours = !access(p.path, W_OK);
	place[c] = p;
}

/* "… MOUNTPOINT OPTIONS … - TYPE SOURCE SUPER": version 1 names its controllers in the last. */
static void look_at_mount(char *line)
{
	char *rest = strstr(line, " - "), mount[PATH_MAX / 4], type[32], super[256];

	if (!rest || sscanf(line, "%*s %*s %*s %*s %1023s", mount) != 1 || sscanf(rest, " - %31s %*s %255s", type, super) != 2)
		return;
	for (int c = 0; c < CGROUP_CONTROLLERS; c++)
		if (!strcmp(type, "cgroup2") || (!strcmp(type, "cgroup") && cgroup_has_word(super, cgroup_names[c], ",")))
			consider((enum cgroup_controller)c, mount, type[6]);
}

static void look(void)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[8192];

	while (f && fgets(line, sizeof line, f))
		look_at_mount(line);
	if (f)
		fclose(f);
}

const struct cgroup_place *cgroup_place(enum cgroup_controller c)
{
	pthread_once(&once, look);
	return *place[c].path ? &place[c] : NULL;
}

bool cgroup_can(enum cgroup_controller c)
{
	const struct cgroup_place *p = cgroup_place(c);

	return p && p->ours;
}

/* --- memory --------------------------------------------------------------------------------------------------------------------------- */

/* "max" is as good as no file, and so is version 1's largest number. */
static uint64_t read_number(const char *dir, const char *name)
{
	char line[64];

	return cgroup_read_line(dir, name, line, sizeof line) && *line >= '0' && *line <= '9' ? strtoull(line, NULL, 10) : UINT64_MAX;
}

/* Page cache, but for what has no other place, as a tmpfs. */
static uint64_t reclaimable(const struct cgroup_place *p, const char *dir)
{
	const char *active = p->v2 ? "active_file" : "total_active_file", *inactive = p->v2 ? "inactive_file" : "total_inactive_file";
	FILE *f = open_file(dir, "memory.stat");
	unsigned long long bytes;
	uint64_t sum = 0;
	char name[64];

	while (f && fscanf(f, "%63s %llu", name, &bytes) == 2)
		if (!strcmp(name, active) || !strcmp(name, inactive))
			sum += bytes;
	if (f)
		fclose(f);
	return sum;
}

static void look_at_limit(const struct cgroup_place *p, const char *dir, uint64_t *available, uint64_t *limit)
{
	uint64_t max = read_number(dir, p->v2 ? "memory.max" : "memory.limit_in_bytes"), used, cache, left;

	if (max >= INT64_MAX / 2)
		return;
	used = read_number(dir, p->v2 ? "memory.current" : "memory.usage_in_bytes");
	cache = reclaimable(p, dir);
	used -= cache < used ? cache : used;
	left = used < max ? max - used : 0;
	*available = left < *available ? left : *available;
	*limit = max < *limit ? max : *limit;
}

void cgroup_memory(uint64_t *ret_available, uint64_t *ret_limit)
{
	const struct cgroup_place *p = cgroup_place(CGROUP_MEMORY);
	char own[PATH_MAX / 4], dir[sizeof p->path];

	*ret_available = *ret_limit = UINT64_MAX;
	if (!p || !own_path(p->v2 ? "" : cgroup_names[CGROUP_MEMORY], own, sizeof own))
		return;
	snprintf(dir, sizeof dir, "%.*s%s", (int)p->mount, p->path, own);
	for (char *end = dir + strlen(dir); end && end >= dir + p->mount; end = strrchr(dir, '/')) {
		*end = '\0';
		look_at_limit(p, dir, ret_available, ret_limit);
	}
}
