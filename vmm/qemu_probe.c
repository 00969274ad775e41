/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu_probe.h"

#include <stdio.h>
#include <string.h>

#include "vmm/program_output.h"

#define DEFAULT_BINARY "qemu-system-x86_64"
#define MAJOR_MIN 7
#define MINOR_MIN 2

int qemu_version_parse(const char *output, char *ret, size_t n, unsigned int *major, unsigned int *minor)
{
	static const char word[] = "version ";
	const char *at = strstr(output, word);
	unsigned int a, b;

	if (!at || sscanf(at + strlen(word), "%3u.%3u", &a, &b) != 2)
		return -EINVAL;
	at += strlen(word);
	snprintf(ret, n, "%.*s", (int)strspn(at, "0123456789."), at);
	*major = a;
	*minor = b;
	return 0;
}

static int look(const char *binary, const struct kvm_facts *kvm, struct driver_facts *ret)
{
	unsigned int major, minor;
	char out[4096];
	int r;

	r = program_output(binary, "--version", NULL, out, sizeof out, &ret->why);
	if (r == -ENOENT)
		return fail(&ret->why, ENODEV, "no QEMU at %s: install qemu-system-x86, or write its path to config/qemu", binary);
	if (r < 0)
		return r;
	if (qemu_version_parse(out, ret->version, sizeof ret->version, &major, &minor) < 0)
		return fail(&ret->why, ENODEV, "%s doesn't tell its version: is it QEMU?", binary);
	if (major < MAJOR_MIN || (major == MAJOR_MIN && minor < MINOR_MIN))
		return fail(&ret->why, ENODEV, "%s is QEMU %s: at least %d.%d is needed", binary, ret->version, MAJOR_MIN, MINOR_MIN);
	ret->accel_kvm = kvm->usable && program_output(binary, "-accel", "help", out, sizeof out, NULL) == 0 && strstr(out, "kvm");
	return 0;
}

void qemu_probe(const char *path, const struct kvm_facts *kvm, struct driver_facts *ret)
{
	if (!path || !*path)
		path = DEFAULT_BINARY;
	*ret = (struct driver_facts){ .boots = true, .places = true };
	snprintf(ret->program.path, sizeof ret->program.path, "%s", path);
	ret->usable = look(path, kvm, ret) == 0;
	ret->why.code = ret->usable ? 0 : ENODEV;
	snprintf(ret->detail, sizeof ret->detail, "%s", ret->accel_kvm ? "with KVM" : "by emulation (TCG)");
}
