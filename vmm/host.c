/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/host.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/cgroup_place.h"

/* Held while a probe runs: who asks meanwhile waits for that answer instead of starting a probe of its own. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct kvm_facts kvm; /* guarded by lock, as the rest */
static bool kvm_known;

static struct known {
	const struct driver *driver;
	struct stat of;
	struct driver_facts facts;
} known[4];

static void ask_kvm(struct kvm_facts *ret)
{
	if (!kvm_known)
		kvm_probe(&kvm);
	kvm_known = true;
	*ret = kvm;
}

void host_kvm(struct kvm_facts *ret)
{
	pthread_mutex_lock(&lock);
	ask_kvm(ret);
	pthread_mutex_unlock(&lock);
}

int host_program(const char *name, char *ret, size_t n)
{
	const char *at = getenv("PATH") ?: "/usr/local/bin:/usr/bin:/bin";

	if (strchr(name, '/'))
		return (size_t)snprintf(ret, n, "%s", name) < n && !access(ret, X_OK) ? 0 : -ENOENT;
	while (*at) {
		size_t len = strcspn(at, ":");

		if (len && (size_t)snprintf(ret, n, "%.*s/%s", (int)len, at, name) < n && !access(ret, X_OK))
			return 0;
		at += len + (at[len] == ':');
	}
	return -ENOENT;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static struct known *slot(const struct driver *driver)
{
	struct known *k = known;

	while (k->driver && k->driver != driver)
		k++;
	k->driver = driver;
	return k;
}

static void ask_driver(const struct driver *driver, const char *path, struct driver_facts *ret)
{
	struct known *k = slot(driver);
	struct kvm_facts host;
	struct stat st = { 0 };

	if (path && stat(path, &st))
		memset(&st, 0, sizeof st);
	if (k->facts.usable && same_file(&st, &k->of) && !strcmp(k->facts.program.path, path ?: "")) {
		*ret = k->facts;
		return;
	}
	ask_kvm(&host);
	k->facts = (struct driver_facts){ 0 };
	driver->probe(path, &host, &k->facts);
	if (path)
		snprintf(k->facts.program.path, sizeof k->facts.program.path, "%s", path);
	k->of = st;
	*ret = k->facts;
}

void host_driver(const struct driver *driver, const char *binary, struct driver_facts *ret)
{
	char path[sizeof ret->program.path];

	if (binary && host_program(binary, path, sizeof path) < 0) {
		*ret = (struct driver_facts){ 0 };
		fail(&ret->why, ENODEV, "%s: there is no program %s: install it or set config/%s", driver->name, binary, driver->name);
		return;
	}
	pthread_mutex_lock(&lock);
	ask_driver(driver, binary ? path : NULL, ret);
	pthread_mutex_unlock(&lock);
}

void host_memory(uint64_t *ret_available, uint64_t *ret_total)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kb;
	uint64_t left, limit;
	char line[128];

	*ret_available = *ret_total = 0;
	while (f && fgets(line, sizeof line, f)) {
		if (sscanf(line, "MemAvailable: %llu", &kb) == 1)
			*ret_available = kb << 10;
		else if (sscanf(line, "MemTotal: %llu", &kb) == 1)
			*ret_total = kb << 10;
	}
	if (f)
		fclose(f);
	cgroup_memory(&left, &limit);
	if (left < *ret_available)
		*ret_available = left;
	if (limit < *ret_total)
		*ret_total = limit;
}
