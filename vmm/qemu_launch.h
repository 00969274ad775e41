/* SPDX-License-Identifier: Apache-2.0
 *
 * QEMU's process with all that it inherits. */
#ifndef FORKFS_QEMU_LAUNCH_H
#define FORKFS_QEMU_LAUNCH_H

#include "vmm/driver.h"
#include "vmm/last_words.h"

struct qemu_launched {
	struct process process;
	int control, console; /* connected and nonblocking, owned */
	int handover;         /* owned */
	int state;            /* owned: what is written into it QEMU reads from the descriptor `incoming`; -1: it boots */
	char generation[40]; /* a UUID: what its guest finds as its generation, if it has a place for that */
	int incoming;
	struct last_words words;
};

/* Blocks. Returns 0; -ENODEV QEMU can't be run; another negative errno. *ret is untouched on failure and nothing is left, but for the sockets' names
 * in spec->dir. */
int qemu_launch(struct qemu_launched *ret, const struct vm_spec *spec, struct failure *why);

#endif
