/* SPDX-License-Identifier: Apache-2.0
 *
 * A cold boot under Firecracker, which boots its guests into memory that is nobody else's: one that is started for that alone is paused as soon as its guest has begun, and
 * what there is of the guest then goes into memory of ours, for another one to go on with. */
#ifndef FORKFS_FIRECRACKER_BOOT_H
#define FORKFS_FIRECRACKER_BOOT_H

#include <stdatomic.h>

#include "vmm/driver.h"

/* Boots what `spec` describes: its RAM is in spec->ram then, its device state in the memfd *ret, the caller's. Takes as long as a kernel takes to be loaded: a worker's
 * task. `cancelled`: it is called off. Returns 0; -ECANCELED; -ETIMEDOUT; -EIO Firecracker refused or ended; -ENODEV it can't be run; another negative errno. No process is
 * left. */
int firecracker_boot(int *ret, const struct vm_spec *spec, const atomic_bool *cancelled, struct failure *why);

#endif
