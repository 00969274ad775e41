/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "vmm/base/io.h"

int snapshot_find(const struct caller *c, const char *path, dev_t mount, int *ret, ino_t *ret_inode, struct failure *why)
{
	AUTO_CLOSE int dir = caller_open(c, path, why);
	struct stat st;
	int r;

	if (dir < 0)
		return dir;
	if (fstat(dir, &st))
		return fail_errno(why, errno, "%s", path);
	if (!S_ISDIR(st.st_mode))
		return fail(why, EINVAL, "%s: is not a directory: a snapshot is one, with memory.bin, vmstate and snapshot.json", path);
	if (st.st_dev != mount) {
		*ret = steal_fd(&dir);
		return SNAPSHOT_OUTSIDE;
	}
	r = caller_may_read(c, dir, "memory.bin");
	if (r < 0)
		return r == -ENOENT ? fail(why, EINVAL, "%s: is no snapshot but another directory of this mount", path)
				    : fail_errno(why, -r, "%s/memory.bin", path);
	*ret_inode = st.st_ino;
	return SNAPSHOT_INSIDE;
}

static int sealed_memfd(const char *name, const char *data, size_t n)
{
	AUTO_CLOSE int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r;

	if (fd < 0)
		return -errno;
	r = write_all(fd, data, n);
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK))
		return -errno;
	return steal_fd(&fd);
}

int copy_to_memfd(int from, const char *name, size_t max, struct failure *why)
{
	AUTO_FREE char *data = NULL;
	size_t n;
	int r = read_file(from, max, &data, &n);

	if (r == -EFBIG)
		return fail(why, EINVAL, "%s: is larger than %zu MiB", name, max >> 20);
	if (r < 0)
		return fail_errno(why, -r, "%s", name);
	r = sealed_memfd(name, data, n);
	return r < 0 ? fail_errno(why, -r, "%s: can't be kept in memory", name) : r;
}

/* Opens a member and looks what it is. */
static int open_member(const struct caller *c, int dir, const char *name, struct stat *st, struct failure *why)
{
	AUTO_CLOSE int path = caller_open_at(c, dir, name, why);
	AUTO_CLOSE int fd = -1;

	if (path < 0)
		return path;
	fd = caller_read(c, path, name, why);
	if (fd < 0)
		return fd;
	if (fstat(fd, st))
		return fail_errno(why, errno, "%s", name);
	return steal_fd(&fd);
}

static int read_recipe(struct snapshot *s, const struct caller *c, int dir, struct failure *why)
{
	AUTO_FREE char *json = NULL;
	AUTO_CLOSE int fd = -1;
	struct stat st;
	size_t n;
	int r;

	fd = open_member(c, dir, "snapshot.json", &st, why);
	if (fd < 0)
		return fd;
	r = read_file(fd, RECIPE_JSON_MAX, &json, &n);
	if (r == -EFBIG)
		return fail(why, EINVAL, "snapshot.json: is larger than %u bytes", RECIPE_JSON_MAX);
	if (r < 0)
		return fail_errno(why, -r, "snapshot.json");
	r = recipe_parse(&s->recipe, json, n, why);
	return r < 0 ? fail_within(why, "snapshot.json") : 0;
}

static int open_memory(struct snapshot *s, const struct caller *c, int dir, struct failure *why)
{
	const struct recipe *recipe = &s->recipe;
	struct stat st;

	s->memory = open_member(c, dir, recipe->memory.file, &st, why);
	if (s->memory < 0)
		return s->memory;
	if ((uint64_t)st.st_size < recipe->ram_size)
		return fail(why, EINVAL, "%s: is truncated: it has %lld bytes, the guest's RAM %llu", recipe->memory.file,
			    (long long)st.st_size, (unsigned long long)recipe->ram_size);
	s->memory_bytes = (uint64_t)st.st_blocks * 512;
	if ((uint64_t)st.st_size != recipe->memory.size)
		return fail(why, EINVAL, "%s: has %lld bytes, snapshot.json says %llu", recipe->memory.file, (long long)st.st_size,
			    (unsigned long long)recipe->memory.size);
	return 0;
}

static int check_vmstate(const struct recipe *recipe, const char *data, size_t n, struct failure *why)
{
	if (n != recipe->vmstate.size)
		return fail(why, EINVAL, "%s: has %zu bytes, snapshot.json says %llu", recipe->vmstate.file, n,
			    (unsigned long long)recipe->vmstate.size);
	if (recipe->vmstate.has_crc64 && crc64_jones(0, data, n) != recipe->vmstate.crc64)
		return fail(why, EINVAL, "%s: is corrupt: its CRC-64 is not the one in snapshot.json", recipe->vmstate.file);
	return 0;
}

static int open_vmstate(struct snapshot *s, const struct caller *c, int dir, struct failure *why)
{
	const char *name = s->recipe.vmstate.file;
	AUTO_FREE char *data = NULL;
	AUTO_CLOSE int fd = -1;
	struct stat st;
	size_t n;
	int r;

	fd = open_member(c, dir, name, &st, why);
	if (fd < 0)
		return fd;
	r = read_file(fd, SNAPSHOT_VMSTATE_MAX, &data, &n);
	if (r == -EFBIG)
		return fail(why, EINVAL, "%s: is larger than %u MiB", name, SNAPSHOT_VMSTATE_MAX >> 20);
	if (r < 0)
		return fail_errno(why, -r, "%s", name);
	r = check_vmstate(&s->recipe, data, n, why);
	if (r < 0)
		return r;
	s->vmstate = sealed_memfd("vmstate", data, n);
	return s->vmstate < 0 ? fail_errno(why, -s->vmstate, "%s: can't be kept in memory", name) : 0;
}

int snapshot_open(struct snapshot **ret, const struct caller *c, int dir, const char *path, struct failure *why)
{
	struct snapshot *s = calloc(1, sizeof *s);
	int r;

	if (!s)
		return fail(why, ENOMEM, "%s: no memory", path);
	s->refs = 1;
	s->memory = s->vmstate = -1;
	snprintf(s->path, sizeof s->path, "%s", path);
	r = read_recipe(s, c, dir, why);
	if (r == 0)
		r = open_memory(s, c, dir, why);
	if (r == 0)
		r = open_vmstate(s, c, dir, why);
	if (r < 0) {
		snapshot_unref(s);
		return fail_within(why, "snapshot %s", path);
	}
	*ret = s;
	return 0;
}

struct snapshot *snapshot_ref(struct snapshot *s)
{
	s->refs++;
	return s;
}

void snapshot_unref(struct snapshot *s)
{
	if (!s || --s->refs)
		return;
	close_fd(&s->memory);
	close_fd(&s->vmstate);
	free(s);
}

int snapshot_vmstate(const struct snapshot *s)
{
	char path[32];
	int fd;

	snprintf(path, sizeof path, "/proc/self/fd/%d", s->vmstate);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
