/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a new VM comes from: a snapshot to restore or a description to boot. Opened and checked on a worker, as the caller, before any process starts. */
#ifndef FORKFS_SOURCE_H
#define FORKFS_SOURCE_H

#include "vmm/boot_config.h"
#include "vmm/config.h"
#include "vmm/driver.h"
#include "vmm/snapshot.h"
#include "vmm/template.h"

struct source {
	/* What is asked for; set by the loop. */
	bool boot;
	struct caller *caller; /* who asks */
	struct caller *self;   /* the daemon, for what is inside the mount */
	char path[4097];
	dev_t mount;
	struct config config;  /* the fork's part, and the programs */
	/* Inside the mount: the loop says which directory it really is, and asks again. */
	bool inside;
	ino_t inode;
	bool ours; /* the snapshot is one of this daemon's */
	int dir; /* O_PATH, -1: not known yet */
	const atomic_bool *cancelled;
	/* What came of it. */
	struct snapshot *snapshot;
	int kernel, initrd; /* memfds */
	char *args;
	struct recipe recipe;
	enum region_kind region;
	const char *backend;       /* as config/memory_backend has it */
	struct template *template; /* what the children share, NULL: the memory file itself, or nothing */
	const struct driver *driver;
	struct driver_facts facts;
};

void source_init(struct source *s);
void source_finish(struct source *s);

/* Worker. Returns 0: all that came of it is there, or s->inside asks for s->dir; or a negative errno with a sentence. */
int source_open(struct source *s, struct failure *why);

#endif
