/* SPDX-License-Identifier: Apache-2.0
 *
 * The pages that a memory has over another one, put where a process maps that other one privately. */
#ifndef FORKFS_MEMORY_PLACE_H
#define FORKFS_MEMORY_PLACE_H

#include <stdatomic.h>
#include <sys/types.h>

#include "vmm/memory/memory_source.h"

/* Puts the own pages of `from` into the address space of process `pid`, where byte 0 is at address `at` and nothing has been touched yet. By its userfaultfd `uffd`,
 * which has nothing registered there; without one (-1) through /proc/PID/mem. Returns 0; -ECANCELED; -ESRCH the process is gone; what reading `from` gives; other
 * negative errnos. */
int memory_place(int uffd, pid_t pid, uint64_t at, struct memory_source *from, const atomic_bool *cancelled, struct failure *why);

#endif
