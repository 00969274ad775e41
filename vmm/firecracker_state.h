/* SPDX-License-Identifier: Apache-2.0
 *
 * The head of a Firecracker device state file, "vmstate". The layout was read from Firecracker's sources (src/vmm/src/snapshot, persist.rs), releases 1.10 to 1.16:
 *
 *     until 1.14  magic (8 bytes, little-endian), length of the version (8), the version, RAM in MiB (8) …
 *     since 1.15  0x00, magic (8), length of the version (1), the version, a tag 0, 2, 4 or 6 and RAM in MiB in 8, 4, 2 or 1 bytes …
 *
 * and at the end of both a CRC-64/Jones of all before it (8). */
#ifndef FORKFS_FIRECRACKER_STATE_H
#define FORKFS_FIRECRACKER_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/failure.h"

#define FIRECRACKER_STATE_MAX 10000000u /* bytes; Firecracker reads no more */

/* Of the format, "10.0.0": a reader of the same major number and the same or a higher minor one can load it. */
struct firecracker_version {
	unsigned int major, minor, patch;
};

struct firecracker_state {
	struct firecracker_version version;
	uint64_t ram_size; /* bytes */
};

/* Whether these first bytes of a file (16 are enough) are those of a Firecracker state, of whatever machine. */
bool firecracker_state_is(const void *data, size_t n);

/* Reads a whole file. Returns 0; -EINVAL it is none, is truncated or corrupt; -EOPNOTSUPP it is another machine's. *ret is untouched on failure. */
int firecracker_state_parse(struct firecracker_state *ret, const void *data, size_t n, struct failure *why);

/* Reads "10.0.0", with a "v" before it or not; what follows is passed over. Returns 0 or -EINVAL. */
int firecracker_version_parse(struct firecracker_version *ret, const char *text);

#endif
