/* SPDX-License-Identifier: Apache-2.0
 *
 * Which files a VMM may open by name: what it was handed as a descriptor is its own anyway. By a root directory that holds nothing else, which
 * takes privilege, and by Landlock where the kernel has it. Any thread; may block. */
#ifndef FORKFS_CONFINEMENT_H
#define FORKFS_CONFINEMENT_H

#include <stddef.h>

#include "vmm/base/failure.h"

/* What is allowed with a file, or below a directory. Of a root directory all is read-only, but for devices. */
#define ALLOW_READ 1u    /* open it for reading, list it */
#define ALLOW_EXECUTE 2u
#define ALLOW_WRITE 4u   /* open it for writing */
#define ALLOW_SOCKETS 8u /* make and remove sockets there */
#define ALLOW_DEVICE 16u /* ioctl(2) on a device */

struct allow {
	const char *path;  /* absolute; one that doesn't exist is passed over; NULL: `fd` */
	int fd;            /* O_PATH will do */
	unsigned int what; /* ALLOW_ bits */
};

struct confinement {
	int ruleset; /* landlock.h; -1: none */
	int root;    /* minimal_root.h; -1: none */
};

#define CONFINEMENT_NONE ((struct confinement){ -1, -1 })

/* For process_spec: nothing but `list`, and what every program needs to begin (the shared libraries and programs of the system, below /usr). Returns 0, or a
 * negative errno and *ret is CONFINEMENT_NONE, as it is where this host has neither. */
int confinement_make(struct confinement *ret, const struct allow *list, size_t n, struct failure *why);
void confinement_finish(struct confinement *c);

/* Gives back what is kept for the next ones; at the end, nobody else is there. */
void confinement_end(void);

#define AUTO_CONFINEMENT __attribute__((cleanup(confinement_finish)))

#endif
