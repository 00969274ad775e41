/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/doctor.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "vmm/cgroup.h"
#include "vmm/host.h"
#include "vmm/landlock.h"
#include "vmm/minimal_root.h"

static void line(struct text *t, const char *verdict, const char *name, const char *fmt, ...) PRINTF(4, 5);
static void line(struct text *t, const char *verdict, const char *name, const char *fmt, ...)
{
	char detail[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(detail, sizeof detail, fmt, ap);
	va_end(ap);
	text_printf(t, "%-4s %s %s\n", verdict, name, detail);
}

static void check_fuse(struct text *t)
{
	if (access("/dev/fuse", R_OK | W_OK))
		line(t, "fail", "fuse", "/dev/fuse can't be opened (%m): load the module fuse");
	else
		line(t, "ok", "fuse", "/dev/fuse is there");
}

static void check_memfd(struct text *t)
{
	AUTO_CLOSE int fd = memfd_create("forkfs:doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_GROW))
		line(t, "fail", "memfd", "no memfd that can be sealed (%m): a kernel with CONFIG_MEMFD_CREATE is needed");
	else
		line(t, "ok", "memfd", "sealed memfds work");
}

/* A descriptor that also traps the kernel's own accesses, as a VMM needs it. */
static int full_userfaultfd(const char **how)
{
	AUTO_CLOSE int dev = -1;
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	*how = "the system call";
	if (fd >= 0)
		return fd;
	dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	*how = "/dev/userfaultfd";
	return dev < 0 ? -1 : ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
}

static void check_userfaultfd(struct text *t)
{
	const char *how;
	AUTO_CLOSE int fd = full_userfaultfd(&how);
	struct uffdio_api api = { .api = UFFD_API };

	if (fd < 0)
		line(t, "warn", "userfaultfd", "can't be used (%m): set vm.unprivileged_userfaultfd=1 or give access to /dev/userfaultfd; RAM can't be "
					       "filled on demand without it");
	else if (ioctl(fd, UFFDIO_API, &api))
		line(t, "warn", "userfaultfd", "its interface is unknown (%m)");
	else
		line(t, "ok", "userfaultfd", "by %s, features 0x%llx", how, (unsigned long long)api.features);
}

static void check_kvm(struct text *t)
{
	struct kvm_facts kvm;

	host_kvm(&kvm);
	line(t, kvm.usable ? "ok" : "warn", "kvm", "%s", kvm.detail);
}

#define DRIVERS_MAX 8

static void print_driver(const struct driver *driver, const struct driver_facts *facts, bool any, struct text *t)
{
	if (facts->usable)
		line(t, "ok", driver->name, "%s %s, %s", facts->program.path, facts->version, facts->detail);
	else
		line(t, any ? "warn" : "fail", driver->name, "%s", facts->why.text);
}

/* One that does is enough. */
static void check_drivers(const struct config *config, struct text *t)
{
	struct driver_facts facts[DRIVERS_MAX];
	bool any = false;

	for (size_t i = 0; i < DRIVERS_MAX && drivers[i]; i++) {
		int key = config_find(drivers[i]->name);

		if (drivers[i]->automatic)
			host_driver(drivers[i], key < 0 ? NULL : config_get(config, (enum config_id)key), &facts[i]);
		any = any || (drivers[i]->automatic && facts[i].usable);
	}
	for (size_t i = 0; i < DRIVERS_MAX && drivers[i]; i++)
		if (drivers[i]->automatic)
			print_driver(drivers[i], &facts[i], any, t);
}

static void check_memory(struct text *t)
{
	uint64_t available, total;

	host_memory(&available, &total);
	line(t, available < total / 10 ? "warn" : "ok", "memory", "%8llu of %8llu MiB are available", (unsigned long long)(available >> 20),
	     (unsigned long long)(total >> 20));
}

static void check_cgroup(struct text *t)
{
	AUTO_TEXT struct text can = { 0 };
	bool all = cgroup_can(CGROUP_MEMORY) && cgroup_can(CGROUP_CPU) && cgroup_can(CGROUP_PIDS), crowded = cgroup_is_crowded();

	cgroup_describe(&can);
	line(t, all && !crowded ? "ok" : "warn", "cgroup", "what a VMM can be limited in (config/vmm_memory_max, vmm_cpu_max, vmm_pids_max): %s%s", can.data ?: "",
	     crowded ? "; but not where others' processes are in the daemon's group: start it by systemd-run --scope -p Delegate=yes" : "");
}

static void check_landlock(struct text *t)
{
	int abi = landlock_abi();

	if (!abi)
		line(t, minimal_root_can() ? "ok" : "warn", "landlock", "not there: add landlock to the kernel's lsm= list%s",
		     minimal_root_can() ? "; a VMM's root directory keeps it from the host's files all the same" : ", or a VMM can read what is readable for everyone");
	else
		line(t, "ok", "landlock", "ABI %d: VMMs open no file of the host's%s%s", abi, abi < 4 ? ", but can use TCP where they have a network" : "",
		     abi < 6 ? ", but can signal processes of their own user" : "");
}

static void check_root(struct text *t)
{
	if (minimal_root_can())
		line(t, "ok", "root", "a VMM's root directory has the system's programs and libraries and its own, and nothing else");
	else
		line(t, "warn", "root", "the daemon may not mount: VMMs see the names of the host's files, and can connect to sockets that are for everyone");
}

static void check_privilege(const struct config *config, struct text *t)
{
	if (geteuid() == 0)
		line(t, "ok", "privilege", "every VMM runs as a user id of its own out of %s", config_get(config, CONFIG_UIDS));
	else
		line(t, "warn", "privilege", "the daemon is not root: VMMs run as user %u, without a network namespace", geteuid());
}

void doctor_print(const struct config *config, struct text *t)
{
	check_fuse(t);
	check_memfd(t);
	check_userfaultfd(t);
	check_kvm(t);
	check_drivers(config, t);
	check_memory(t);
	check_cgroup(t);
	check_landlock(t);
	check_root(t);
	check_privilege(config, t);
}
