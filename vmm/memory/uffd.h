/* SPDX-License-Identifier: Apache-2.0
 *
 * userfaultfd(2), typed. Every function returns 0 or a negative errno and may be called from any thread; addresses are those of the process that made
 * the descriptor, lengths are bytes, all of them multiples of the page size. Two errnos mean the same everywhere: -ESRCH that process is gone,
 * -ENOENT the range is not mapped, or not registered for this. */
#ifndef FORKFS_MEMORY_UFFD_H
#define FORKFS_MEMORY_UFFD_H

#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* linux/userfaultfd.h since 6.4 and 6.7. */
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

/* What serving missing pages of a memfd needs, and what its live capture needs. */
#define UFFD_FEATURES_MISSING ((uint64_t)UFFD_FEATURE_MISSING_SHMEM)
#define UFFD_FEATURES_CAPTURE ((uint64_t)(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM))

/* What the running kernel offers: UFFD_FEATURE_ bits. -EPERM, -ENOSYS: it has no userfaultfd for us. */
int uffd_features(uint64_t *ret);

/* A descriptor for the calling process's own address space, close-on-exec and non-blocking, that traps the kernel's accesses too. `device` is an open
 * /dev/userfaultfd, or -1: the system call, which needs privilege or vm.unprivileged_userfaultfd. Returns the descriptor, which the caller closes;
 * -EINVAL where the kernel lacks one of `features`; -EPERM. */
int uffd_open(int device, uint64_t features);

/* `modes`: UFFDIO_REGISTER_MODE_ bits. A later call replaces those of an earlier one on the same range, but never by fewer of them: uffd_unregister()
 * comes before that. -EBUSY: another descriptor has it. */
int uffd_register(int uffd, uint64_t start, uint64_t n, uint64_t modes);

/* Ends what uffd_register() began: whoever waits goes on, pages that are still missing become zeros. */
int uffd_unregister(int uffd, uint64_t start, uint64_t n);

/* Places whole pages where there are none and wakes who waits for them. `modes`: UFFDIO_COPY_MODE_ bits. *ret_done is always set: the bytes placed before
 * the end or the failure. -EEXIST: the page at `to` + *ret_done is there already; -EAGAIN: the mapping is being changed, try again later;
 * -ENOMEM, -ENOSPC: no memory, or the memfd's limit. */
int uffd_copy(int uffd, uint64_t to, const void *pages, size_t n, uint64_t modes, size_t *ret_done);

/* As uffd_copy() of zeros, never write-protected. */
int uffd_zeropage(int uffd, uint64_t to, size_t n, size_t *ret_done);

/* Protects a range against writes, or unprotects it and wakes who waits in it. -EAGAIN as above, after a few tries. */
int uffd_writeprotect(int uffd, uint64_t start, uint64_t n, bool protect);

/* Has whoever waits in the range try again: a fault that nobody will answer any more comes anew. */
int uffd_wake(int uffd, uint64_t start, uint64_t n);

/* The waiting messages, at most `max`, of a non-blocking descriptor. Returns how many; 0: none. */
int uffd_read(int uffd, struct uffd_msg *msgs, size_t max);

#endif
