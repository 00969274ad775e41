/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/firecracker_files.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/base/cleanup.h"

/* An open file of its own, so that neither offset nor flags are anyone else's. */
static int reopen(int fd, int flags, int *ret)
{
	char path[32];

	if (fd < 0)
		return -ENOENT;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	*ret = open(path, flags | O_CLOEXEC | O_NOCTTY);
	return *ret < 0 ? -errno : 0;
}

static int open_scratch(int *ret)
{
	*ret = memfd_create("forkfs:scratch", MFD_CLOEXEC);
	return *ret < 0 ? -errno : 0;
}

int firecracker_files_answer(const char *path, int flags, struct opens_answer *ret, void *data)
{
	struct firecracker_files *f = data;

	if (strncmp(path, FIRECRACKER_NAMES, strlen(FIRECRACKER_NAMES)))
		return firecracker_devices_answer(&f->devices, path, flags, ret);
	if (!strcmp(path, FIRECRACKER_MEMORY))
		return reopen(f->memory, flags & O_ACCMODE, &ret->fd);
	if (!strcmp(path, FIRECRACKER_VMSTATE))
		return reopen(f->vmstate, f->saving ? flags & (O_ACCMODE | O_TRUNC) : O_RDONLY, &ret->fd);
	if (!strcmp(path, FIRECRACKER_SCRATCH) && f->saving)
		return open_scratch(&ret->fd);
	if (!strcmp(path, FIRECRACKER_KERNEL))
		return reopen(f->kernel, O_RDONLY, &ret->fd);
	if (!strcmp(path, FIRECRACKER_INITRD))
		return reopen(f->initrd, O_RDONLY, &ret->fd);
	if (!strcmp(path, FIRECRACKER_LOG))
		return reopen(f->log, O_WRONLY | O_APPEND, &ret->fd);
	return -ENOENT;
}
