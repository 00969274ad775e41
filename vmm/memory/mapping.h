/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a process maps a file, as its /proc/PID/maps tells. Private to memory/. */
#ifndef FORKFS_MEMORY_MAPPING_H
#define FORKFS_MEMORY_MAPPING_H

#include <stdint.h>
#include <sys/types.h>

#include "vmm/base/failure.h"

/* Finds the MAP_PRIVATE mapping of the first `size` bytes of file `fd` in process `pid`, whole and in one piece though the kernel may have split it
 * into several areas. Returns 0; -ESRCH the process is gone or maps it not, or not so; -EACCES; other errnos of open. */
int mapping_find(uint64_t *ret, pid_t pid, int fd, uint64_t size, struct failure *why);

#endif
