/* SPDX-License-Identifier: Apache-2.0
 *
 * A VM description as Firecracker's --config-file takes it (Firecracker 1.16, docs/getting-started.md and swagger): boot-source,
 * machine-config, drives … */
#ifndef FORKFS_BOOT_CONFIG_H
#define FORKFS_BOOT_CONFIG_H

#include <stdint.h>

#include "vmm/base/failure.h"

#define BOOT_CONFIG_JSON_MAX (1u << 20) /* bytes */

struct boot_config {
	char *kernel; /* absolute */
	char *initrd; /* absolute, or NULL */
	char *args;   /* kernel command line, or NULL */
	unsigned int vcpus;
	uint64_t ram_size; /* bytes */
};

/* Reads a description of `n` bytes. Unknown keys are refused by name, relative paths too. What Firecracker knows but forkfs can't do yet (drives,
 * network-interfaces, vsock …, when they hold something; huge_pages other than "None"; smt true) is -EOPNOTSUPP, by name. Defaults: vcpu_count 1,
 * mem_size_mib 128, as Firecracker's. Returns 0, -EINVAL, -EOPNOTSUPP, -ENOMEM; *ret is untouched on failure. */
int boot_config_parse(struct boot_config *ret, const char *json, size_t n, struct failure *why);
void boot_config_finish(struct boot_config *c);

#endif
