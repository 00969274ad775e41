/* SPDX-License-Identifier: Apache-2.0
 *
 * Starting a Firecracker: what it inherits, where it listens. */
#ifndef FORKFS_FIRECRACKER_LAUNCH_H
#define FORKFS_FIRECRACKER_LAUNCH_H

#include "vmm/driver.h"
#include "vmm/last_words.h"
#include "vmm/leash.h"

/* driver_program's abilities, each of a patch (docs/firecracker.md). */
#define FIRECRACKER_SHARED 1u       /* mem_backend.shared */
#define FIRECRACKER_VMSTATE_ONLY 2u /* snapshot_type VmstateOnly */
#define FIRECRACKER_UFFD 4u         /* mem_backend.uffd_uds_path */
#define FIRECRACKER_WP 8u           /* PUT /uffd/wp */
#define FIRECRACKER_BOOT 16u        /* machine-config.memory_path */

/* Of releases: */
#define FIRECRACKER_CLOCK 32u /* clock_realtime, 1.16 */
#define FIRECRACKER_VSOCK 64u /* vsock_override, 1.16 */

#define FIRECRACKER_API_THREAD "fc_api" /* who answers */
#define FIRECRACKER_SLICE 100000        /* nanoseconds: no guest keeps those waiting that answer for it */

#define FIRECRACKER_SOCKETS "sockets" /* in vm_spec.dir: */
#define FIRECRACKER_API "api.sock"
#define FIRECRACKER_GUEST_VSOCK "vsock.sock"
#define FIRECRACKER_HANDOVER "uffd.sock"

struct firecracker_launched {
	struct process process;
	struct last_words words;
	int sockets;  /* O_PATH: the directory of its sockets */
	int theirs;   /* the number of that one in the process */
	int created;  /* an inotify descriptor that tells what is created there */
	int opens;    /* for opens.h */
	int console;  /* the other end of its stdin */
	int handover; /* listens for its userfaultfd, -1: it has none to give */
	struct leash leash; /* it ends with the daemon until that is released */
	int ram, log; /* duplicates of the spec's, so that opens can be answered later */
};

#define FIRECRACKER_LAUNCHED_NONE                                                                                                        \
	((struct firecracker_launched){ .process.pidfd = -1, .words.fd = -1, .sockets = -1, .theirs = -1, .created = -1, .opens = -1, .console = -1,   \
					.handover = -1, .leash = { -1, -1 }, .ram = -1, .log = -1 })

/* Blocks: a worker's task. Returns 0; -ENODEV the program can't be run; another negative errno. Whatever is in *ret then is the caller's to give back. */
int firecracker_launch(struct firecracker_launched *ret, const struct vm_spec *spec, struct failure *why);

/* Makes ret->handover, where `sockets` is known. Returns 0 or a negative errno. */
int firecracker_listen(struct firecracker_launched *ret, const struct vm_spec *spec, struct failure *why);

/* All but the process. */
void firecracker_launched_finish(struct firecracker_launched *l);

/* "/proc/self/fd/N/NAME" of its sockets: short enough for any. Returns buf. */
char *firecracker_socket_path(int sockets, const char *name, char *buf, size_t n);

#endif
