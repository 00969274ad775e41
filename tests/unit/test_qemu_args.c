/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "vmm/qemu_args.h"
#include "vmm/qemu_probe.h"

static const struct qemu_descriptors none = { -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1 };

static struct recipe recipe(void)
{
	struct recipe r = { .machine = "microvm", .accel = "tcg", .vcpus = 2, .ram_size = 256u << 20 };

	cr_assert_eq(qemu_describe(&r, &(struct driver_facts){ .version = "7.2.22" }, NULL), 0);
	return r;
}

/* All words with a space before each. */
static char *words(const struct qemu_args *a, char *buf, size_t n)
{
	size_t len = 0;

	*buf = '\0';
	for (size_t i = 0; i < a->count; i++)
		len += (size_t)snprintf(buf + len, n - len, " %s", a->argv[i]);
	return buf;
}

Test(qemu_args, boots)
{
	struct qemu_descriptors fds = none;
	struct recipe r = recipe();
	struct qemu_args a;
	char all[4096];

	fds.control = 10;
	fds.console = 11;
	fds.record = 12;
	fds.ram = 13;
	fds.kernel = 14;
	cr_assert_eq(qemu_args_build(&a, "/usr/bin/qemu", "web-1", &r, &fds, "g", "console=ttyS0 a,b=c"), 0);
	cr_assert_null(a.argv[a.count]);
	words(&a, all, sizeof all);
	cr_assert(strstr(all, " -M microvm,acpi=off,memory-backend=ram"));
	cr_assert(strstr(all, " -accel tcg,tb-size=32 -cpu max -smp 2 -m 256M"));
	cr_assert(strstr(all, "size=256M,mem-path=/proc/self/fd/13,share=on"));
	cr_assert(strstr(all, " -S "));
	cr_assert(strstr(all, " -kernel /proc/self/fd/14 -append console=ttyS0 a,b=c"));
	cr_assert_null(strstr(all, "-initrd"));
	cr_assert_null(strstr(all, "-incoming"));
	qemu_args_finish(&a);
}

Test(qemu_args, restores)
{
	struct qemu_descriptors fds = none;
	struct recipe r = recipe();
	struct qemu_args a;
	char all[4096];

	snprintf(r.machine, sizeof r.machine, "pc");
	snprintf(r.accel, sizeof r.accel, "kvm");
	cr_assert_eq(qemu_args_build(&a, "qemu", "x", &r, &fds, "g", NULL), 0);
	words(&a, all, sizeof all);
	cr_assert(strstr(all, " -M pc,memory-backend=ram"));
	cr_assert(strstr(all, " -accel kvm "));
	cr_assert(strstr(all, " -incoming defer"));
	cr_assert_null(strstr(all, "-kernel"));
	qemu_args_finish(&a);
}

Test(qemu_args, environment_is_the_preload_s)
{
	struct qemu_descriptors fds = none;
	struct qemu_args a;
	char all[1024];

	cr_assert_eq(qemu_args_environment(&a, &fds), 0);
	cr_assert(a.count == 0 && !a.argv[0]);
	fds.ram = 5;
	fds.handover = 6;
	fds.preload = 7;
	fds.uffd = 8;
	cr_assert_eq(qemu_args_environment(&a, &fds), 0);
	cr_assert_str_eq(words(&a, all, sizeof all), " LD_PRELOAD=/proc/self/fd/7 FORKFS_RAM=5 FORKFS_HANDOVER=6 FORKFS_UFFD=8");
	qemu_args_finish(&a);
}

Test(qemu_check, refuses_what_a_hostile_manifest_may_say)
{
	const struct recipe good = recipe();
	struct recipe r = good;

	cr_assert_eq(qemu_check(&r, REGION_FILE, &(struct driver_facts){ 0 }, NULL), 0);
	cr_assert_eq(qemu_check(&r, REGION_NONE, &(struct driver_facts){ 0 }, NULL), -EINVAL);
	snprintf(r.machine, sizeof r.machine, "pc,firmware=/etc/shadow");
	cr_assert_eq(qemu_check(&r, REGION_SHARED, &(struct driver_facts){ 0 }, NULL), -EOPNOTSUPP);
	r = good;
	snprintf(r.cpu, sizeof r.cpu, "-daemonize");
	cr_assert_eq(qemu_check(&r, REGION_SHARED, &(struct driver_facts){ 0 }, NULL), -EINVAL);
	snprintf(r.cpu, sizeof r.cpu, "host");
	cr_assert_eq(qemu_check(&r, REGION_SHARED, &(struct driver_facts){ 0 }, NULL), -EOPNOTSUPP);
	r = good;
	snprintf(r.accel, sizeof r.accel, "xen");
	cr_assert_eq(qemu_check(&r, REGION_SHARED, &(struct driver_facts){ 0 }, NULL), -EOPNOTSUPP);
	r = good;
	r.vcpus = 0;
	cr_assert_eq(qemu_check(&r, REGION_SHARED, &(struct driver_facts){ 0 }, NULL), -EINVAL);
	r = good;
	r.ram_size = 4096;
	cr_assert_eq(qemu_check(&r, REGION_SHARED, &(struct driver_facts){ 0 }, NULL), -EINVAL);
	r = good;
	snprintf(r.devices[0].type, sizeof r.devices[0].type, "disk");
	cr_assert_eq(qemu_check(&r, REGION_SHARED, &(struct driver_facts){ 0 }, NULL), -EOPNOTSUPP);
	r = good;
	r.device_count = 0;
	cr_assert_eq(qemu_check(&r, REGION_SHARED, &(struct driver_facts){ 0 }, NULL), -EOPNOTSUPP);
}

Test(qemu_describe, needs_kvm_for_kvm)
{
	struct recipe r = { .machine = "microvm", .accel = "kvm", .vcpus = 1, .ram_size = 1 << 20 };

	cr_assert_eq(qemu_describe(&r, &(struct driver_facts){ .accel_kvm = false }, NULL), -EOPNOTSUPP);
	cr_assert_str_empty(r.cpu);
	cr_assert_eq(qemu_describe(&r, &(struct driver_facts){ .accel_kvm = true }, NULL), 0);
	cr_assert_str_eq(r.cpu, "host");
}

Test(qemu_probe, reads_the_version)
{
	unsigned int major, minor;
	char version[64];

	cr_assert_eq(qemu_version_parse("QEMU emulator version 7.2.22 (Debian 1:7.2)\n", version, sizeof version, &major, &minor), 0);
	cr_assert_str_eq(version, "7.2.22");
	cr_assert(major == 7 && minor == 2);
	cr_assert_eq(qemu_version_parse("cat (GNU coreutils) 9.1", version, sizeof version, &major, &minor), -EINVAL);
	cr_assert_eq(qemu_version_parse("version x", version, sizeof version, &major, &minor), -EINVAL);
}

Test(qemu_probe, says_what_is_not_usable)
{
	struct driver_facts facts;

	qemu_probe("/no/such/qemu", &(struct kvm_facts){ 0 }, &facts);
	cr_assert(!facts.usable && facts.why.code == ENODEV && strstr(facts.why.text, "/no/such/qemu"));
	qemu_probe("/bin/true", &(struct kvm_facts){ 0 }, &facts);
	cr_assert(!facts.usable && facts.why.code == ENODEV);
}
