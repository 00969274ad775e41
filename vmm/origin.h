/* SPDX-License-Identifier: Apache-2.0
 *
 * What the children of a snapshot are made of, and how: found once for a restore and kept as long as one of them lives. Nothing in it changes. */
#ifndef FORKFS_ORIGIN_H
#define FORKFS_ORIGIN_H

#include <stdatomic.h>

#include "vmm/driver.h"
#include "vmm/snapshot.h"
#include "vmm/working_set.h"

/* How the memory of a memfd-shared child comes to be there. */
enum fill {
	FILL_EAGER,      /* copied before it runs */
	FILL_ONDEMAND,   /* page by page when it is touched */
	FILL_BACKGROUND, /* likewise, and meanwhile the rest */
};

struct origin {
	atomic_uint refs;
	const struct driver *driver;
	struct driver_program program;
	struct snapshot *snapshot;
	const char *backend;      /* as config/memory_backend has it */
	enum region_kind region;
	struct template *template; /* of a REGION_FILE: what is mapped; NULL: the snapshot's file */
	struct memory_source *memory; /* of a REGION_SHARED, and of what is placed over a template; the snapshot's own */
	enum fill fill;
	bool fill_must;            /* asked for by name: there is no falling back to eager */
	bool realtime;             /* its guest's clock is moved on by what has passed since the snapshot */
	char *disks;               /* where its children have their own copies of disks that they write, NULL: nowhere */
	char *network;             /* the tap of a child, with a % for its id, NULL: none */
	bool learn;                /* the pages that children ask for become the snapshot's working set */
	struct working_set *set;   /* placed first, or NULL */
	bool captured;             /* the snapshot was taken by a former daemon */
	int dir;                   /* O_PATH: where the working set is kept, -1 nowhere */
	struct caller *writer;     /* who may write there */
};

/* All but refs is the caller's to fill in. NULL: no memory. */
struct origin *origin_create(void);
struct origin *origin_ref(struct origin *o);

/* NULL is accepted. Any thread. */
void origin_unref(struct origin *o);

/* Whether a child of the one is as good as a child of the other. */
bool origin_same(const struct origin *a, const struct origin *b);

/* The file that a REGION_FILE child maps; the origin's own. */
int origin_file(const struct origin *o);

/* Descriptors that its children's processes keep for a successor of the daemon, the origin's own: where pages come from, and what those lie over; -1: there is none, or the child has
 * it anyway. */
void origin_kept(const struct origin *o, int *ret_pages, int *ret_base);

/* The value of config/memory_backend, as a string that outlives all; of one that there isn't the default. */
const char *origin_backend(const char *name);

#endif
