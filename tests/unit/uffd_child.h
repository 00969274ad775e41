/* SPDX-License-Identifier: Apache-2.0
 *
 * A child process that maps a memory and hands over a userfaultfd for it, as a VMM does. */
#ifndef FORKFS_TESTS_UFFD_CHILD_H
#define FORKFS_TESTS_UFFD_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct uffd_child {
	pid_t pid;     /* 0: it was killed */
	int memory;
	int uffd;      /* its own, registered for all of the memory */
	int sock;      /* to it; keeps the messages apart */
	uint64_t base; /* where it maps the memory */
};

struct uffd_child_options {
	int memory;     /* a memfd; the child's from now on */
	uint64_t size;  /* bytes of it */
	int flags;      /* of the mapping: MAP_SHARED or MAP_PRIVATE */
	uint64_t modes; /* of the registration: UFFDIO_REGISTER_MODE_ bits */
	/* What it does once it is registered. It ends when that returns. */
	void (*work)(volatile uint64_t *ram, int sock, void *data);
	void *data;
};

/* To be called while this process has no other thread: its child would inherit their locks. */
void uffd_child_start(struct uffd_child *c, const struct uffd_child_options *o);

/* Returns when it is dead. Of no effect on one that was killed before. */
void uffd_child_kill(struct uffd_child *c);

/* Kills it, and closes what was for it. */
void uffd_child_end(struct uffd_child *c);

/* Whether this page of the memory is no hole. */
bool is_there(const struct uffd_child *c, uint64_t page);

#endif
