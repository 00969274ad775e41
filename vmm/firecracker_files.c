/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/firecracker_files.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/base/cleanup.h"
#include "vmm/base/log.h"
#include "vmm/opens.h"

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

static int open_device(const struct firecracker_files *f, const char *path, int *ret)
{
	if (!f->unprivileged || (strcmp(path, "/dev/kvm") && strcmp(path, "/dev/userfaultfd")))
		return OPENS_PASS;
	*ret = open(path, O_RDWR | O_CLOEXEC);
	return *ret < 0 ? -errno : 0;
}

/* Whatever else it writes to is a disk, which every child of its snapshot would write. Nothing is looked up: its path may lead into our own mount. /dev has disks, too: a block
 * device, a file in /dev/shm. */
static bool writes_disk(const char *path, int flags)
{
	static const char *const devices[] = { "/dev/kvm", "/dev/userfaultfd", "/dev/net/tun", "/dev/null" };

	if ((flags & O_ACCMODE) == O_RDONLY)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(devices); i++)
		if (!strcmp(path, devices[i]))
			return false;
	log_warn("a guest's disk is refused (%.200s): all children of its snapshot would write it. It has to be read-only there", path);
	return true;
}

int firecracker_files_answer(const char *path, int flags, int *ret, void *data)
{
	const struct firecracker_files *f = data;

	if (strncmp(path, FIRECRACKER_NAMES, strlen(FIRECRACKER_NAMES)))
		return writes_disk(path, flags) ? -EROFS : open_device(f, path, ret);
	if (!strcmp(path, FIRECRACKER_MEMORY))
		return reopen(f->memory, flags & O_ACCMODE, ret);
	if (!strcmp(path, FIRECRACKER_VMSTATE))
		return reopen(f->vmstate, f->saving ? flags & (O_ACCMODE | O_TRUNC) : O_RDONLY, ret);
	if (!strcmp(path, FIRECRACKER_SCRATCH) && f->saving)
		return open_scratch(ret);
	if (!strcmp(path, FIRECRACKER_KERNEL))
		return reopen(f->kernel, O_RDONLY, ret);
	if (!strcmp(path, FIRECRACKER_INITRD))
		return reopen(f->initrd, O_RDONLY, ret);
	if (!strcmp(path, FIRECRACKER_LOG))
		return reopen(f->log, O_WRONLY | O_APPEND, ret);
	return -ENOENT;
}
