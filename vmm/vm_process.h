/* SPDX-License-Identifier: Apache-2.0
 *
 * What the process of a VMM gets, whichever VMM it is. */
#ifndef FORKFS_VM_PROCESS_H
#define FORKFS_VM_PROCESS_H

#include "vmm/driver.h"

/* Who it is, where it writes, what it may open by name (`files`) and how much it may take; all is borrowed, and the last of the limits left free. The program, its arguments and
 * descriptors are the driver's to fill in. */
struct process_spec vm_process(const struct vm_spec *spec, const struct confinement *files, rlim_t open_files);

#endif
