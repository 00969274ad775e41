/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/foreign.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/io.h"
#include "vmm/firecracker_state.h"
#include "vmm/forkd_tag.h"

#define FILES_MAX 64u /* regular files that are looked at */
#define MAGIC_BYTES 16

/* A file of the directory. */
struct candidate {
	char name[NAME_MAX + 1];
	int fd;
	off_t size;
	bool state;
};

struct candidates {
	struct candidate list[FILES_MAX];
	unsigned int count;
};

static void close_all(struct candidates *all)
{
	for (unsigned int i = 0; i < all->count; i++)
		close_fd(&all->list[i].fd);
}

/* It isn't that this user may not, or that it is no file: it can't be read just now. */
static bool is_want(int r)
{
	return r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -EIO;
}

static int open_candidate(const struct caller *c, int dir, const char *name)
{
	AUTO_CLOSE int path = caller_open_at(c, dir, name, NULL);

	return path < 0 ? path : caller_read(c, path, name, NULL);
}

/* What can't be opened, and what is no regular file, is none. Returns 0, or a negative errno where that isn't known. */
static int look_at(struct candidate *ret, const struct caller *c, int dir, const char *name)
{
	char head[MAGIC_BYTES];
	struct stat st;
	ssize_t n;

	ret->fd = open_candidate(c, dir, name);
	if (ret->fd < 0)
		return is_want(ret->fd) ? ret->fd : 0;
	n = fstat(ret->fd, &st) ? -1 : pread(ret->fd, head, sizeof head, 0);
	if (n < 0) {
		close_fd(&ret->fd);
		return -errno;
	}
	snprintf(ret->name, sizeof ret->name, "%s", name);
	ret->size = st.st_size;
	ret->state = n == sizeof head && firecracker_state_is(head, sizeof head);
	return 0;
}

static int look_at_all(struct candidates *all, const struct caller *c, int dir, struct failure *why)
{
	int fd = caller_read_dir(c, dir, why);
	struct dirent *e;
	int r = 0;
	DIR *d;

	if (fd < 0)
		return fd;
	d = fdopendir(fd);
	if (!d) {
		close_fd(&fd);
		return fail(why, ENOMEM, "no memory to look into the directory");
	}
	while (r == 0 && all->count < FILES_MAX && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		r = look_at(&all->list[all->count], c, dir, e->d_name);
		if (r < 0)
			fail_errno(why, -r, "%s", e->d_name);
		all->count += all->list[all->count].fd >= 0;
	}
	closedir(d);
	return r;
}

/* The only one that is the state, or is not. NULL: there is none, or there are several: *ret_count says. */
static struct candidate *only(struct candidates *all, bool state, uint64_t size, unsigned int *ret_count)
{
	struct candidate *found = NULL;

	*ret_count = 0;
	for (unsigned int i = 0; i < all->count; i++) {
		struct candidate *k = &all->list[i];

		if (k->state != state || (size && (uint64_t)k->size != size))
			continue;
		found = k;
		++*ret_count;
	}
	return *ret_count == 1 ? found : NULL;
}

static int read_state(struct firecracker_state *ret, int fd, const char *name, size_t *ret_size, struct failure *why)
{
	AUTO_FREE char *data = NULL;
	int r = read_file(fd, FIRECRACKER_STATE_MAX, &data, ret_size);

	if (r == -EFBIG)
		return fail(why, EINVAL, "%s: is larger than %u bytes: Firecracker reads no more", name, FIRECRACKER_STATE_MAX);
	if (r < 0)
		return fail_errno(why, -r, "%s", name);
	r = firecracker_state_parse(ret, data, *ret_size, why);
	return r < 0 ? fail_within(why, "%s", name) : 0;
}

/* `state`, of `n` bytes, is what was read from f->vmstate. */
static int describe(struct foreign *f, const struct firecracker_state *state, size_t n, const char *vmstate, const char *memory, struct failure *why)
{
	struct recipe *r = &f->recipe;
	struct stat st;

	if (fstat(f->memory, &st) < 0)
		return fail_errno(why, errno, "%s", memory);
	*r = (struct recipe){ .format = RECIPE_FORMAT, .vcpus = 1, .ram_size = state->ram_size, .device_count = 1 };
	snprintf(r->driver, sizeof r->driver, "firecracker");
	snprintf(r->machine, sizeof r->machine, "firecracker");
	snprintf(r->cpu, sizeof r->cpu, "any");
	snprintf(r->accel, sizeof r->accel, "kvm");
	r->devices[0] = (struct recipe_device){ "serial", "console" };
	snprintf(r->vmstate.file, sizeof r->vmstate.file, "%s", vmstate);
	r->vmstate.size = n;
	snprintf(r->memory.file, sizeof r->memory.file, "%s", memory);
	r->memory.size = (uint64_t)st.st_size;
	return 0;
}

/* The memory is as large as the state says, or the only other file: what is wrong with that one is said when it is looked at. */
static int find_pair(struct foreign *f, struct candidates *all, struct failure *why)
{
	struct firecracker_state head;
	struct candidate *state, *memory;
	unsigned int states, memories;
	size_t n;
	int r;

	state = only(all, true, 0, &states);
	if (!states)
		return fail(why, ENOENT, "neither a snapshot.json nor a Firecracker state is there");
	if (!state)
		return fail(why, EINVAL, "there are %u Firecracker states: which one is meant can't be told", states);
	r = read_state(&head, state->fd, state->name, &n, why);
	if (r < 0)
		return r;
	memory = only(all, false, head.ram_size, &memories) ?: only(all, false, 0, &memories);
	if (!memory && !memories)
		return fail(why, ENOENT, "a Firecracker state is there (%s), but no file with its guest's memory", state->name);
	if (!memory)
		return fail(why, EINVAL, "which of %u files is the memory of %s, %llu bytes, can't be told", memories, state->name, (unsigned long long)head.ram_size);
	f->vmstate = steal_fd(&state->fd);
	f->memory = steal_fd(&memory->fd);
	return describe(f, &head, n, state->name, memory->name, why);
}

/* Beside the JSON, for a tag may have been moved; else where it says. */
static int open_of_tag(const struct caller *c, int dir, const char *path, struct failure *why)
{
	const char *name = forkd_tag_name(path);
	struct failure unopened;
	AUTO_CLOSE int fd = caller_open_at(c, dir, name, &unopened);

	if (fd == -ENOENT)
		fd = caller_open(c, path, why);
	else if (fd < 0)
		*why = unopened;
	return fd < 0 ? fd : caller_read(c, fd, path, why);
}

static int find_tag(struct foreign *f, const struct caller *c, int dir, const char *json, size_t n, struct failure *why)
{
	struct firecracker_state state;
	struct forkd_tag tag;
	size_t size;
	int r = forkd_tag_parse(&tag, json, n, why);

	if (r < 0)
		return fail_within(why, "snapshot.json");
	f->vmstate = open_of_tag(c, dir, tag.vmstate, why);
	if (f->vmstate < 0)
		return f->vmstate;
	f->memory = open_of_tag(c, dir, tag.memory, why);
	if (f->memory < 0)
		return f->memory;
	r = read_state(&state, f->vmstate, forkd_tag_name(tag.vmstate), &size, why);
	return r < 0 ? r : describe(f, &state, size, forkd_tag_name(tag.vmstate), forkd_tag_name(tag.memory), why);
}

int foreign_find(struct foreign *ret, const struct caller *c, int dir, const char *tag, size_t n, struct failure *why)
{
	struct foreign f = { .vmstate = -1, .memory = -1 };
	struct candidates *all;
	int r;

	if (tag) {
		r = find_tag(&f, c, dir, tag, n, why);
	} else {
		all = calloc(1, sizeof *all);
		r = all ? look_at_all(all, c, dir, why) : fail(why, ENOMEM, "no memory to look into the directory");
		if (r == 0)
			r = find_pair(&f, all, why);
		if (all)
			close_all(all);
		free(all);
	}
	if (r == 0) {
		*ret = f;
		return 0;
	}
	close_fd(&f.vmstate);
	close_fd(&f.memory);
	return r;
}
