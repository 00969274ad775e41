/* SPDX-License-Identifier: Apache-2.0
 *
 * What this host can do: facts that take a process or a guest to find out are found once and kept. Safe from any worker. */
#ifndef FORKFS_HOST_H
#define FORKFS_HOST_H

#include "vmm/driver.h"
#include "vmm/kvm.h"

/* The KVM probe's answer; the first call takes up to half a second. */
void host_kvm(struct kvm_facts *ret);

/* What the driver's probe says of `binary` (a path or a name in PATH). Kept until the file is another one; a "no" is asked again each time. */
void host_driver(const struct driver *driver, const char *binary, struct driver_facts *ret);

/* Where the program is: `name` itself when it has a slash, else the first executable of that name in PATH. Returns 0 or -ENOENT. */
int host_program(const char *name, char *ret, size_t n);

/* MemAvailable and MemTotal of /proc/meminfo in bytes, or what the limits of the daemon's control group leave where that is less; 0 unknown. */
void host_memory(uint64_t *ret_available, uint64_t *ret_total);

#endif
