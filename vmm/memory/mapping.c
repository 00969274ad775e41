/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/mapping.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct area {
	uint64_t start, end, offset, inode;
	dev_t device;
	bool private;
};

struct search {
	pid_t pid;
	struct stat file;
	uint64_t size;
	uint64_t base, mapped; /* mapped: bytes from base on that were seen so far; 0: offset 0 was not */
	bool elsewhere;        /* a part of the file is not where the first one is */
};

static bool parse_area(struct area *ret, const char *line)
{
	unsigned int major, minor;
	char perms[5];

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64, &ret->start, &ret->end, perms, &ret->offset, &major,
		   &minor, &ret->inode) != 7)
		return false;
	ret->device = makedev(major, minor);
	ret->private = perms[3] == 'p';
	return true;
}

/* maps shows the device of the superblock. btrfs and overlayfs tell stat(2) another one: the mapped file itself then decides, where we may look. */
static bool same_file(const struct search *s, const struct area *a)
{
	char path[96];
	struct stat st;

	if (a->inode != s->file.st_ino)
		return false;
	if (a->device == s->file.st_dev)
		return true;
	snprintf(path, sizeof path, "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, (int)s->pid, a->start, a->end);
	return !stat(path, &st) && st.st_ino == s->file.st_ino && st.st_dev == s->file.st_dev;
}

/* Areas come in ascending order of address. */
static void look_at(struct search *s, const struct area *a)
{
	if (!a->private || a->offset >= s->size || !same_file(s, a))
		return;
	if (!s->mapped && a->offset == 0) {
		s->base = a->start;
		s->mapped = a->end - a->start;
	} else if (s->mapped && a->start == s->base + s->mapped && a->offset == s->mapped) {
		s->mapped += a->end - a->start;
	} else {
		s->elsewhere = true;
	}
}

static int read_areas(struct search *s, FILE *maps)
{
	AUTO_FREE char *line = NULL;
	size_t size = 0;
	struct area a;
	int r;

	errno = 0;
	while (getline(&line, &size, maps) >= 0)
		if (parse_area(&a, line))
			look_at(s, &a);
	r = ferror(maps) ? -errno : 0;
	return r;
}

static int judge(const struct search *s, struct failure *why)
{
	if (!s->mapped && !s->elsewhere)
		return fail(why, ESRCH, "process %d doesn't map the memory file privately", (int)s->pid);
	if (s->elsewhere || s->mapped < s->size)
		return fail(why, ESRCH, "process %d doesn't map the memory file in one piece: %llu of %llu bytes are where its start is",
			    (int)s->pid, (unsigned long long)s->mapped, (unsigned long long)s->size);
	return 0;
}

int mapping_find(uint64_t *ret, pid_t pid, int fd, uint64_t size, struct failure *why)
{
	struct search s = { .pid = pid, .size = size };
	char path[32];
	FILE *maps;
	int r;

	if (fstat(fd, &s.file))
		return fail_errno(why, errno, "the memory file");
	snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
	maps = fopen(path, "re");
	if (!maps && (errno == ENOENT || errno == ESRCH))
		return fail(why, ESRCH, "process %d is gone", (int)pid);
	if (!maps)
		return fail_errno(why, errno, "%s", path);
	r = read_areas(&s, maps);
	fclose(maps);
	if (r < 0)
		return fail_errno(why, -r, "%s", path);
	r = judge(&s, why);
	if (r == 0)
		*ret = s.base;
	return r;
}
