/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/region.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "vmm/memory/extents.h"

#define NAME_BYTES 250 /* memfd_create(2): 249 and the NUL */

static int check_size(uint64_t size, struct failure *why)
{
	if (!size || size % PAGE_BYTES || size > INT64_MAX)
		return fail(why, EINVAL, "%llu bytes of RAM are no multiple of %u", (unsigned long long)size, PAGE_BYTES);
	return 0;
}

int region_create_shared(struct region *ret, const char *name, uint64_t size, struct failure *why)
{
	char full[NAME_BYTES];
	AUTO_CLOSE int fd = -1;
	int r = check_size(size, why);

	if (r < 0)
		return r;
	snprintf(full, sizeof full, "forkfs:%s", name);
	fd = memfd_create(full, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return fail_errno(why, errno, "no memfd for the guest's RAM");
	if (ftruncate(fd, (off_t)size))
		return fail_errno(why, errno, "a memfd of %llu bytes", (unsigned long long)size);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK))
		return fail_errno(why, errno, "the memfd can't be sealed");
	*ret = (struct region){ REGION_SHARED, size, steal_fd(&fd) };
	return 0;
}

int region_create_file(struct region *ret, int memory, uint64_t size, struct failure *why)
{
	struct stat st;
	int fd, r = check_size(size, why);

	if (r < 0)
		return r;
	if (fstat(memory, &st))
		return fail_errno(why, errno, "the memory file");
	if (st.st_size < 0 || (uint64_t)st.st_size < size)
		return fail(why, EIO, "the memory file has %lld bytes, the guest's RAM %llu", (long long)st.st_size,
			    (unsigned long long)size);
	fd = fcntl(memory, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return fail_errno(why, errno, "no descriptor for the memory file");
	*ret = (struct region){ REGION_FILE, size, fd };
	return 0;
}

void region_finish(struct region *r)
{
	if (r->kind != REGION_NONE)
		close_fd(&r->fd);
	*r = (struct region){ .fd = -1 };
}

uint64_t region_bytes(const struct region *r)
{
	struct stat st;

	if (r->kind != REGION_SHARED || fstat(r->fd, &st))
		return 0;
	return (uint64_t)st.st_blocks * 512;
}
