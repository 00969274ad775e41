/* SPDX-License-Identifier: Apache-2.0
 *
 * How a VMM maps its guest's RAM, and what there is to look after it with. */
#ifndef FORKFS_VM_MEMORY_H
#define FORKFS_VM_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cleanup.h"

struct vm_memory {
	uint64_t at;       /* address of the first byte in its address space, 0 unknown */
	int uffd;          /* owned: a userfaultfd for that address space; nothing is protected, nothing missing is its affair; -1 none */
	uint64_t features; /* what it was opened with, UFFD_FEATURE_ bits */
	int error;         /* why there is none, a negative errno */
	int notes;         /* owned: another one, with UFFD_FEATURES_WRITTEN; -1 none */
	bool noted;        /* it notes what is written since the guest was loaded */
};

#define VM_MEMORY_UNKNOWN ((struct vm_memory){ .uffd = -1, .notes = -1 })

static inline void vm_memory_finish(struct vm_memory *m)
{
	close_fd(&m->uffd);
	close_fd(&m->notes);
}

#endif
