/* SPDX-License-Identifier: Apache-2.0
 *
 * What a Firecracker opens: names that are no files and stand for descriptors of ours. */
#ifndef FORKFS_FIRECRACKER_FILES_H
#define FORKFS_FIRECRACKER_FILES_H

#include "vmm/firecracker_devices.h"

#define FIRECRACKER_NAMES "/forkfs/"
#define FIRECRACKER_MEMORY FIRECRACKER_NAMES "memory"   /* what is loaded */
#define FIRECRACKER_VMSTATE FIRECRACKER_NAMES "vmstate" /* what is loaded or saved */
#define FIRECRACKER_SCRATCH FIRECRACKER_NAMES "scratch" /* memory that is saved, and thrown away */
#define FIRECRACKER_KERNEL FIRECRACKER_NAMES "kernel"
#define FIRECRACKER_INITRD FIRECRACKER_NAMES "initrd"
#define FIRECRACKER_LOG FIRECRACKER_NAMES "log"

/* Borrowed descriptors, -1: there is none. */
struct firecracker_files {
	int memory, vmstate, kernel, initrd, log;
	bool saving; /* the state is written, not read */
	struct firecracker_devices devices;
};

#define FIRECRACKER_FILES_NONE ((struct firecracker_files){ -1, -1, -1, -1, -1, .saving = false })

/* opens.h's answer: `data` is a struct firecracker_files. */
int firecracker_files_answer(const char *path, int flags, struct opens_answer *ret, void *data);

#endif
