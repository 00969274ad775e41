/* SPDX-License-Identifier: Apache-2.0
 *
 * Which files a VMM may open by name (landlock(7)): what it was handed as a descriptor is its own anyway. Any thread. */
#ifndef FORKFS_LANDLOCK_H
#define FORKFS_LANDLOCK_H

#include <stddef.h>

#include "vmm/base/failure.h"

/* What is allowed with a file, or below a directory. */
#define ALLOW_READ 1u    /* open it for reading, list it */
#define ALLOW_EXECUTE 2u
#define ALLOW_WRITE 4u   /* open it for writing */
#define ALLOW_SOCKETS 8u /* make and remove sockets there */
#define ALLOW_DEVICE 16u /* ioctl(2) on a device */

struct landlock_allow {
	const char *path;    /* one that doesn't exist is passed over; NULL: `fd` */
	int fd;              /* O_PATH will do */
	unsigned int what;   /* ALLOW_ bits */
};

/* The kernel's ABI version, 0: it has no Landlock, or it is switched off, by FORKFS_NO_LANDLOCK in the environment too. */
int landlock_abi(void);

/* Makes a ruleset for process_spec: nothing but `list`, and what every program needs to begin (the shared libraries and programs of the system, below /usr); no TCP (ABI 4), and neither
 * signals nor abstract sockets beyond itself (ABI 6). Returns 0 and in *ret the descriptor, the caller's, or -1: the kernel has no Landlock; or a negative errno. */
int landlock_make(int *ret, const struct landlock_allow *list, size_t n, struct failure *why);

#endif
