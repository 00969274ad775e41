/* SPDX-License-Identifier: Apache-2.0
 *
 * What QEMU is told on its command line. */
#ifndef FORKFS_QEMU_ARGS_H
#define FORKFS_QEMU_ARGS_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/driver.h"

#define QEMU_ARGS_MAX 64

/* Numbers of descriptors that QEMU inherits, -1: not there. */
struct qemu_descriptors {
	int control;  /* listening socket for QMP */
	int console;  /* listening socket for the serial console */
	int record;   /* the console's record, write-only */
	int ram;      /* what QEMU opens as its memory */
	int kernel, initrd;
	int incoming; /* what a device state is read from; QMP tells its number */
	/* the preloaded object's; */
	int preload, handover, kvm, uffd;
};

struct qemu_args {
	char *argv[QEMU_ARGS_MAX];
	size_t count;
	bool failed; /* an allocation failed, or there are too many: not whole */
};

/* `generation`: a UUID, for a guest that has a place for it. fds->kernel -1: wait for a state to load instead of booting. The strings are the caller's to free by qemu_args_finish(), also when it
 * failed: -ENOMEM. */
int qemu_args_build(struct qemu_args *ret, const char *binary, const char *id, const struct recipe *recipe, const struct qemu_descriptors *fds,
		    const char *generation, const char *kernel_args);

/* The environment: nothing but what the preloaded object reads. */
int qemu_args_environment(struct qemu_args *ret, const struct qemu_descriptors *fds);

void qemu_args_finish(struct qemu_args *a);

/* The driver's check() and describe(). */
int qemu_check(const struct recipe *recipe, enum region_kind kind, const struct driver_facts *facts, struct failure *why);
int qemu_describe(struct recipe *recipe, const struct driver_facts *facts, struct failure *why);

#endif
