/* SPDX-License-Identifier: Apache-2.0
 *
 * A snapshot that somebody wants restored: a directory opened as the caller, read and checked before any process starts. What was opened is used from then on,
 * never its name again. */
#ifndef FORKFS_SNAPSHOT_H
#define FORKFS_SNAPSHOT_H

#include <sys/types.h>

#include "vmm/caller.h"
#include "vmm/recipe.h"

#define SNAPSHOT_VMSTATE_MAX (64u << 20) /* bytes; no device state comes near it */

struct snapshot {
	unsigned int refs; /* the loop's */
	char path[4097];   /* as it was asked for: for people */
	struct recipe recipe;
	int memory;        /* the memory file, read-only */
	uint64_t memory_bytes; /* what it takes: its blocks */
	int vmstate;       /* a sealed memfd with the device state: nobody changes it under us */
};

/* Where a path led. */
enum snapshot_place {
	SNAPSHOT_OUTSIDE, /* an ordinary directory: *ret is its O_PATH descriptor */
	SNAPSHOT_INSIDE,  /* into our own mount: *ret_inode says where; the caller may read it */
};

/* Opens the directory `path` as the caller. `mount` is the device of our own mount. Worker. Returns an enum snapshot_place or a negative errno. */
int snapshot_find(const struct caller *c, const char *path, dev_t mount, int *ret, ino_t *ret_inode, struct failure *why);

/* Reads and checks the snapshot in the directory `dir` (borrowed). Worker. Returns 0; -ENOENT a member is missing; -EINVAL a manifest that is malformed or at odds with its
 * members; -EACCES; -EOPNOTSUPP. */
int snapshot_open(struct snapshot **ret, const struct caller *c, int dir, const char *path, struct failure *why);

struct snapshot *snapshot_ref(struct snapshot *s);
void snapshot_unref(struct snapshot *s);

/* A descriptor of the device state with an offset of its own, at 0. Returns it or a negative errno. */
int snapshot_vmstate(const struct snapshot *s);

/* A memfd with the content of file `from`, at most `max` bytes, sealed against change. `name` is the memfd's and the sentence's. Returns the descriptor or a negative
 * errno. */
int copy_to_memfd(int from, const char *name, size_t max, struct failure *why);

#endif
