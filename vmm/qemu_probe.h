/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FORKFS_QEMU_PROBE_H
#define FORKFS_QEMU_PROBE_H

#include "vmm/driver.h"

/* The driver's probe(): asks the binary for its version and accelerators, for at most a few seconds. */
void qemu_probe(const char *path, const struct kvm_facts *kvm, struct driver_facts *ret);

/* Finds "… version 7.2.22 (…" in what --version printed. Returns 0, or -EINVAL: there is none. */
int qemu_version_parse(const char *output, char *ret, size_t n, unsigned int *major, unsigned int *minor);

#endif
