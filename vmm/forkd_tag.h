/* SPDX-License-Identifier: Apache-2.0
 *
 * The snapshot.json of a forkd tag directory: an object with absolute paths, "vmstate" and "memory" among them, that were right where the tag was made. */
#ifndef FORKFS_FORKD_TAG_H
#define FORKFS_FORKD_TAG_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/failure.h"

struct forkd_tag {
	char vmstate[PATH_MAX], memory[PATH_MAX]; /* absolute */
};

/* Whether this JSON (n bytes) is such an object rather than one of ours, which has a "format". False also where it is no JSON. */
bool forkd_tag_is(const char *json, size_t n);

/* Returns 0, -EINVAL with a sentence that names the key, -ENOMEM; *ret is untouched on failure. */
int forkd_tag_parse(struct forkd_tag *ret, const char *json, size_t n, struct failure *why);

/* The last component of an absolute path. */
const char *forkd_tag_name(const char *path);

#endif
