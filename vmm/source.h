/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a new VM comes from: a snapshot to restore or a description to boot. Opened and checked on a worker, as the caller, before any process starts. */
#ifndef FORKFS_SOURCE_H
#define FORKFS_SOURCE_H

#include "vmm/boot_config.h"
#include "vmm/config.h"
#include "vmm/driver.h"
#include "vmm/origin.h"

struct source {
	/* What is asked for; set by the loop. */
	bool boot;
	struct caller *caller; /* who asks */
	struct caller *self;   /* the daemon, for what is its own */
	char path[4097];
	struct config config;  /* the fork's part, and the programs */
	const atomic_bool *cancelled;
	/* What came of it. */
	struct origin *origin; /* of a restore */
	int kernel, initrd;    /* of a boot: memfds */
	char *args;
	struct recipe recipe;
	enum region_kind region;
	const char *backend;   /* as config/memory_backend has it */
	const struct driver *driver;
	struct driver_facts facts;
	uint64_t took;         /* microseconds */
};

void source_init(struct source *s);
void source_finish(struct source *s);

/* Worker. Returns 0: all that came of it is there; or a negative errno with a sentence. */
int source_open(struct source *s, struct failure *why);

#endif
