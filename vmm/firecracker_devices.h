/* SPDX-License-Identifier: Apache-2.0
 *
 * What a Firecracker opens beside names of ours: the host's devices, and what its guest's devices are made of. */
#ifndef FORKFS_FIRECRACKER_DEVICES_H
#define FORKFS_FIRECRACKER_DEVICES_H

#include <stdbool.h>

#include "vmm/base/failure.h"
#include "vmm/caller.h"
#include "vmm/opens.h"

struct firecracker_devices {
	bool unprivileged; /* it runs as somebody who may not open the devices that it needs */
	bool loading;      /* a state is being loaded: its guest's devices may be made, and never after */
	unsigned int made; /* so far */
	const char *name;  /* for the log; that and what follows is borrowed while it is loading */
	const char *disks; /* where its own copies of disks are that its guest writes, NULL: nowhere */
	const char *tap;   /* the host's that its first network interface leads to, NULL: none */
	struct caller *caller; /* who may attach that */
	uid_t uid;         /* who it is: a disk has to be one that it may read */
	gid_t gid;
	bool has_disk;     /* it has such a copy */
	struct failure why; /* of the first that could not be made */
};

/* opens.h's answer. What is under way borrows `d` until it is done. */
int firecracker_devices_answer(struct firecracker_devices *d, const char *path, int flags, struct opens_answer *ret);

#endif
