/* SPDX-License-Identifier: Apache-2.0
 *
 * The recipe of a snapshot: all that a VMM must be told to load it, as snapshot.json holds it. The format is described in
 * docs/snapshot.md. */
#ifndef FORKFS_RECIPE_H
#define FORKFS_RECIPE_H

#include <stdint.h>

#include "vmm/base/failure.h"
#include "vmm/base/text.h"

#define RECIPE_FORMAT 1            /* what this forkfs writes; a larger one is refused */
#define RECIPE_DEVICES_MAX 16
#define RECIPE_JSON_MAX (1u << 20) /* bytes; a longer snapshot.json is refused */

/* A device that the guest's state speaks of. */
struct recipe_device {
	char type[32]; /* "serial"; "vmgenid": the VM generation id, which is another one after each load */
	char id[32];
};

struct recipe_member {
	char file[256];      /* a name in the snapshot's directory: no slash, not "." or ".." */
	uint64_t size;       /* bytes */
	char identity[40];   /* memory: a UUID made when it was captured; "" unknown */
	uint64_t crc64;      /* vmstate: CRC-64/Jones of its bytes; has_crc64 says whether it is known */
	bool has_crc64;
};

struct recipe {
	int format;
	char driver[16];         /* "qemu", "null", "firecracker" */
	char driver_version[64]; /* of the VMM that wrote the state, "7.2.22" */
	char machine[32];        /* "microvm", "pc" */
	char cpu[64];            /* as the VMM's -cpu takes it */
	char accel[8];           /* "kvm", "tcg", "" where it makes no difference */
	unsigned int vcpus;
	uint64_t ram_size;       /* bytes */
	struct recipe_device devices[RECIPE_DEVICES_MAX];
	unsigned int device_count;
	struct recipe_member memory, vmstate;
	char created[32];        /* ISO 8601, UTC; "" unknown */
};

/* Reads a snapshot.json of `n` bytes (needs no NUL). Every value's type and range is checked; keys it doesn't know are passed over, for a format of
 * the same number may grow. Returns 0; -EINVAL with a sentence that names the key; -EOPNOTSUPP a newer format or an unknown device;
 * -ENOMEM. *ret is untouched on failure. */
int recipe_parse(struct recipe *ret, const char *json, size_t n, struct failure *why);

/* Appends the JSON, indented, ending in a newline. t->failed tells of missing memory. */
void recipe_print(const struct recipe *r, struct text *t);

/* CRC-64/Jones as Firecracker's snapshots use it: reflected polynomial 0x95AC9329AC4BC9B5, initial value 0, no final xor; "123456789" gives
 * 0xe9c6d914c4b8d9ca. Pass the result back in as `crc` to go on. */
uint64_t crc64_jones(uint64_t crc, const void *data, size_t n);

#endif
