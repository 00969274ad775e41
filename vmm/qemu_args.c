/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu_args.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define VCPUS_MAX 32
#define MIB (1ull << 20)

static void add(struct qemu_args *a, const char *fmt, ...) PRINTF(2, 3);

/* One word, whatever characters it has. The last place stays NULL. */
static void add(struct qemu_args *a, const char *fmt, ...)
{
	va_list ap;
	char *word;

	if (a->count + 1 >= QEMU_ARGS_MAX) {
		a->failed = true;
		return;
	}
	va_start(ap, fmt);
	if (vasprintf(&word, fmt, ap) < 0)
		a->failed = true;
	else
		a->argv[a->count++] = word;
	va_end(ap);
}

static void add_option(struct qemu_args *a, const char *name, const char *value)
{
	add(a, "-%s", name);
	add(a, "%s", value);
}

static void add_machine(struct qemu_args *a, const struct recipe *r)
{
	add(a, "-M");
	/* Memory that is merged or dumped would leave the one file that holds it. microvm: its ACPI hangs at boot now and then under TCG. */
	add(a, "%s%s,memory-backend=ram,mem-merge=off,dump-guest-core=off", r->machine, strcmp(r->machine, "microvm") ? "" : ",acpi=off");
	add_option(a, "accel", strcmp(r->accel, "kvm") ? "tcg,tb-size=32" : "kvm");
	add_option(a, "cpu", r->cpu);
	add(a, "-smp");
	add(a, "%u", r->vcpus);
}

/* A file with a path, though only of /proc: newer QEMU leaves only such out of the state. */
static void add_memory(struct qemu_args *a, const struct recipe *r, int ram)
{
	add(a, "-m");
	add(a, "%lluM", (unsigned long long)(r->ram_size / MIB));
	add(a, "-object");
	add(a, "memory-backend-file,id=ram,size=%lluM,mem-path=/proc/self/fd/%d,share=on", (unsigned long long)(r->ram_size / MIB), ram);
}

static void add_control(struct qemu_args *a, int control)
{
	add(a, "-chardev");
	add(a, "socket,id=control,fd=%d,server=on,wait=off", control);
	add_option(a, "mon", "chardev=control,mode=control");
}

/* The record is written by QEMU itself, so it goes on while nobody is connected. As a set of descriptors it is not opened anew, which this uid may
 * be unable to. */
static void add_console(struct qemu_args *a, int console, int record)
{
	add(a, "-add-fd");
	add(a, "fd=%d,set=1", record);
	add(a, "-chardev");
	add(a, "socket,id=console,fd=%d,server=on,wait=off,logfile=/dev/fdset/1,logappend=on", console);
	add_option(a, "serial", "chardev:console");
}

/* What its guest finds there is new in each process: a clone can tell that it is one. */
static void add_generation(struct qemu_args *a, const struct recipe *r, const char *generation)
{
	for (unsigned int i = 0; i < r->device_count; i++)
		if (!strcmp(r->devices[i].type, "vmgenid")) {
			add(a, "-device");
			add(a, "vmgenid,id=%s,guid=%s", r->devices[i].id, generation);
		}
}

static void add_boot(struct qemu_args *a, const struct qemu_descriptors *fds, const char *kernel_args)
{
	add(a, "-kernel");
	add(a, "/proc/self/fd/%d", fds->kernel);
	if (fds->initrd >= 0) {
		add(a, "-initrd");
		add(a, "/proc/self/fd/%d", fds->initrd);
	}
	add_option(a, "append", kernel_args);
}

int qemu_args_build(struct qemu_args *ret, const char *binary, const char *id, const struct recipe *recipe, const struct qemu_descriptors *fds,
		    const char *generation, const char *kernel_args)
{
	struct qemu_args *a = ret;

	*a = (struct qemu_args){ 0 };
	add(a, "%s", binary);
	add(a, "-name");
	add(a, "guest=%s", id);
	add(a, "-nodefaults");
	add(a, "-no-user-config");
	add_option(a, "display", "none");
	add(a, "-no-reboot");
	add(a, "-S");
	add_option(a, "sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	add_machine(a, recipe);
	add_memory(a, recipe, fds->ram);
	add_control(a, fds->control);
	add_console(a, fds->console, fds->record);
	add_generation(a, recipe, generation);
	if (fds->kernel >= 0)
		add_boot(a, fds, kernel_args);
	else
		add_option(a, "incoming", "defer");
	return a->failed ? -ENOMEM : 0;
}

int qemu_args_environment(struct qemu_args *ret, const struct qemu_descriptors *fds)
{
	*ret = (struct qemu_args){ 0 };
	if (fds->preload >= 0)
		add(ret, "LD_PRELOAD=/proc/self/fd/%d", fds->preload);
	if (fds->handover >= 0) {
		add(ret, "FORKFS_RAM=%d", fds->ram);
		add(ret, "FORKFS_HANDOVER=%d", fds->handover);
	}
	if (fds->uffd >= 0)
		add(ret, "FORKFS_UFFD=%d", fds->uffd);
	if (fds->kvm >= 0)
		add(ret, "FORKFS_KVM=%d", fds->kvm);
	return ret->failed ? -ENOMEM : 0;
}

void qemu_args_finish(struct qemu_args *a)
{
	for (size_t i = 0; i < a->count; i++)
		free(a->argv[i]);
	*a = (struct qemu_args){ 0 };
}

static bool one_of(const char *s, const char *a, const char *b)
{
	return !strcmp(s, a) || !strcmp(s, b);
}

/* A model with features, "max,-avx512f=off": nothing that QEMU takes for another option. */
static bool is_cpu(const char *s)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-=,";

	return *s && *s != '-' && !s[strspn(s, allowed)] && strcmp(s, "help");
}

static bool known_devices(const struct recipe *r)
{
	if (!r->device_count || strcmp(r->devices[0].type, "serial"))
		return false;
	return r->device_count == 1 || (r->device_count == 2 && !strcmp(r->devices[1].type, "vmgenid") && !strcmp(r->machine, "pc"));
}

int qemu_check(const struct recipe *r, enum region_kind kind, const struct driver_facts *facts, struct failure *why)
{
	(void)facts;
	if (!one_of(r->machine, "microvm", "pc"))
		return fail(why, EOPNOTSUPP, "QEMU's machine is microvm or pc, not \"%s\"", r->machine);
	if (!one_of(r->accel, "tcg", "kvm"))
		return fail(why, EOPNOTSUPP, "QEMU's accel is kvm or tcg, not \"%s\"", r->accel);
	if (!is_cpu(r->cpu))
		return fail(why, EINVAL, "\"%s\" is no CPU model", r->cpu);
	if (!strncmp(r->cpu, "host", 4) && strcmp(r->accel, "kvm"))
		return fail(why, EOPNOTSUPP, "CPU \"%s\" needs accel kvm", r->cpu);
	if (r->vcpus < 1 || r->vcpus > VCPUS_MAX)
		return fail(why, EINVAL, "%u CPUs: 1 to %d are possible", r->vcpus, VCPUS_MAX);
	if (!r->ram_size || r->ram_size % MIB)
		return fail(why, EINVAL, "%llu bytes of RAM are no multiple of 1 MiB", (unsigned long long)r->ram_size);
	if (!known_devices(r))
		return fail(why, EOPNOTSUPP, "QEMU's guests have one serial console and no other device so far but, on machine pc, one vmgenid");
	if (kind != REGION_SHARED && kind != REGION_FILE)
		return fail(why, EINVAL, "no memory to map");
	return 0;
}

int qemu_describe(struct recipe *recipe, const struct driver_facts *facts, struct failure *why)
{
	struct recipe r = *recipe;
	bool kvm = !strcmp(r.accel, "kvm");
	int checked;

	if (kvm && !facts->accel_kvm)
		return fail(why, EOPNOTSUPP, "KVM runs no guests here: accel tcg works");
	snprintf(r.cpu, sizeof r.cpu, "%s", kvm ? "host" : "max");
	snprintf(r.driver, sizeof r.driver, "qemu");
	snprintf(r.driver_version, sizeof r.driver_version, "%s", facts->version);
	r.device_count = 1;
	r.devices[0] = (struct recipe_device){ "serial", "console" };
	if (!strcmp(r.machine, "pc")) /* a microvm without ACPI has no place for it */
		r.devices[r.device_count++] = (struct recipe_device){ "vmgenid", "generation" };
	checked = qemu_check(&r, REGION_SHARED, facts, why);
	if (checked == 0)
		*recipe = r;
	return checked;
}
