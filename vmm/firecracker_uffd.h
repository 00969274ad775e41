/* SPDX-License-Identifier: Apache-2.0
 *
 * The message by which a Firecracker hands over a userfaultfd: a JSON array of its regions, {"base_host_virt_addr", "size", "offset", "page_size" …} in bytes, with the
 * descriptor (docs/snapshotting/handling-page-faults-on-snapshot-resume.md of release 1.16). */
#ifndef FORKFS_FIRECRACKER_UFFD_H
#define FORKFS_FIRECRACKER_UFFD_H

#include "vmm/base/failure.h"
#include "vmm/vm_memory.h"

/* Reads such an array of n bytes. *ret is where a guest is mapped in one piece; 0: it is in several, as one of more than 3 GiB. Returns 0 or -EINVAL. */
int firecracker_uffd_parse(uint64_t *ret, const char *json, size_t n, struct failure *why);

/* Takes the message that waits at the socket `fd`. A guest in several pieces has no userfaultfd that is of use: *ret says so. Returns 0, or a negative errno: *ret is untouched. */
int firecracker_uffd_take(struct vm_memory *ret, int fd, struct failure *why);

#endif
