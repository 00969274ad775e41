/* SPDX-License-Identifier: Apache-2.0
 *
 * What a Firecracker can do, found out by asking it; and whether that is enough for a snapshot. */
#ifndef FORKFS_FIRECRACKER_PROBE_H
#define FORKFS_FIRECRACKER_PROBE_H

#include "vmm/driver.h"

/* The driver's operations. */
void firecracker_probe(const char *path, const struct kvm_facts *kvm, struct driver_facts *ret);
int firecracker_check(const struct recipe *recipe, enum region_kind kind, const struct driver_facts *facts, struct failure *why);
int firecracker_check_state(const struct recipe *recipe, int vmstate, const struct driver_facts *facts, struct failure *why);
int firecracker_describe(struct recipe *recipe, const struct driver_facts *facts, struct failure *why);

#endif
