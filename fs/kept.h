/* SPDX-License-Identifier: Apache-2.0
 *
 * A request that waits. It is answered exactly once: when the thing has happened, or when its task was told to end. */
#ifndef FORKFS_KEPT_H
#define FORKFS_KEPT_H

#include "fs/fs.h"

struct kept {
	struct list link;  /* in fs->kept */
	struct list queue; /* for its owner: where it waits */
	fuse_req_t req;    /* NULL once it is answered */
	struct fs *fs;
	pid_t tid;
	/* Its task was told to end: the owner gives up, which ends in kept_answer(). */
	void (*interrupted)(struct kept *k);
	sd_event_source *look;
};

/* Keeps `req`; `interrupted` may come from then on, from the loop, never from inside. */
void kept_init(struct kept *k, struct fs *fs, fuse_req_t req, void (*interrupted)(struct kept *));

/* Takes the request out, to answer it; NULL when that was done already. The struct is its owner's again. */
fuse_req_t kept_answer(struct kept *k);

#endif
