/* SPDX-License-Identifier: Apache-2.0
 *
 * A snapshot that somebody wants restored: either a directory opened as the caller, read and checked before any process starts (what was opened is used from then
 * on, never its name again), or one that this daemon has taken. Safe from any thread. */
#ifndef FORKFS_SNAPSHOT_H
#define FORKFS_SNAPSHOT_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "vmm/caller.h"
#include "vmm/memory/extents.h"
#include "vmm/memory/memory_source.h"
#include "vmm/recipe.h"
#include "vmm/template.h"

#define SNAPSHOT_VMSTATE_MAX (64u << 20) /* bytes; no device state comes near it */

/* Tells which bytes it is: files that have been written to since have another one. */
struct snapshot_key {
	struct {
		dev_t dev;
		ino_t ino;
		off_t size;
		struct timespec modified, changed;
	} manifest, memory, vmstate;
	uint64_t serial; /* of one that this daemon has taken, instead of all that */
	bool foreign;    /* its recipe doesn't come of the manifest alone */
};

struct snapshot {
	atomic_uint refs;
	pthread_mutex_t making; /* of `memory` */
	struct snapshot_key key;
	struct recipe recipe;
	struct memory_source *memory; /* snapshot_memory() gives it */
	int file;                  /* the memory file, read-only; -1: the memory is only to be had from the source */
	uint64_t memory_bytes;     /* what it takes */
	int vmstate;               /* a sealed memfd with the device state: nobody changes it under us */
	/* of one that this daemon has taken: */
	struct template *template; /* what its private children map; NULL: none yet */
	bool delta;                /* it is a few pages over the template */
	bool keeps;                /* the template, beyond the daemon's end */
	int pages;                 /* of a delta: the file that has these; else -1 */
	int dir;                   /* O_PATH: its directory, -1: it has none */
	atomic_int pending;        /* 1: its memory is still being captured; 0: it is whole; a negative errno: it never will be */
};

/* Where a snapshot of this daemon's is in its mount: MOUNT/FORK/snapshots/NAME, and who may look there. */
struct snapshot_place {
	uint64_t fork_serial;
	char fork[65], name[65];
	uid_t uid;
	gid_t gid;
	mode_t mode; /* of the fork's directory */
};

/* Opens the directory `path` as the caller; or finds a snapshot of this daemon's there, in our own mount, which isn't asked. Worker. Returns 0: *ret_dir is an O_PATH descriptor,
 * or -1 and *ret the caller's reference; or a negative errno. */
int snapshot_find(const struct caller *c, const char *path, int *ret_dir, struct snapshot **ret, struct failure *why);

/* Reads and checks the snapshot in the directory `dir` (borrowed), as the caller. Worker. Returns 0; -ENOENT a member is missing; -EINVAL a manifest that is malformed or at
 * odds with its members; -EACCES; -EOPNOTSUPP. */
int snapshot_open(struct snapshot **ret, const struct caller *c, int dir, const char *path, struct failure *why);

/* One that this daemon has taken: `vmstate` is its device state, n bytes; what else there is the caller fills in. Returns 0, -ENOMEM or another negative errno. */
int snapshot_create(struct snapshot **ret, const struct recipe *recipe, const char *vmstate, size_t n, struct failure *why);

struct snapshot *snapshot_ref(struct snapshot *s);

/* NULL is accepted. */
void snapshot_unref(struct snapshot *s);

/* Its memory as a source, made when it is first asked for; the snapshot's own. Worker. Returns 0 or a negative errno. */
int snapshot_memory(struct snapshot *s, struct memory_source **ret, struct failure *why);

/* A descriptor of the device state with an offset of its own, at 0. Returns it or a negative errno. */
int snapshot_vmstate(const struct snapshot *s);

/* The snapshots of this daemon, by their serials, for snapshot_find(). Returns 0 or -ENOMEM. */
int snapshot_publish(uint64_t serial, const struct snapshot_place *place, struct snapshot *s);
void snapshot_retract(uint64_t serial);

/* Its fork has another name, owner or mode. Harmless for one that is not published. */
void snapshot_move(uint64_t serial, const struct snapshot_place *place);

/* The capture of one of ours has come to its end: `result` 0 or a negative errno. */
void snapshot_settle(struct snapshot *s, int result);

/* Waits until the memory file is whole. Worker. Returns 0; -ECANCELED; or why it never will be. */
int snapshot_wait(struct snapshot *s, const atomic_bool *cancelled, struct failure *why);

/* Forgets what is kept of snapshots that were opened: the daemon ends. */
void snapshot_forget(void);

/* A memfd with the content of file `from`, at most `max` bytes, sealed against change. `name` is the memfd's and the sentence's. Returns the descriptor or a negative
 * errno. */
int copy_to_memfd(int from, const char *name, size_t max, struct failure *why);

#endif
