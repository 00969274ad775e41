/* SPDX-License-Identifier: Apache-2.0
 *
 * Names ↔ forks × rows. */
#ifndef FORKFS_NODE_H
#define FORKFS_NODE_H

#include "fs/fs.h"

/* The node of a request's inode number. */
struct node *node_of(struct fs *fs, fuse_ino_t ino);
fuse_ino_t node_number(const struct node *n);

/* Looks the name up below `parent`. *ret has one more lookup. Returns 0, -ENOENT, -ENOTDIR, -ENOMEM. */
int node_lookup(struct node *parent, const char *name, struct node **ret);

/* The node of a fork's directory, or of a snapshot's. Returns 0 or -ENOMEM. */
int node_of_fork(struct fs *fs, struct fork *f, struct node **ret);
int node_of_shot(struct fs *fs, struct shot *s, struct node **ret);

/* Gives back n lookups. */
void node_forget(struct node *n, uint64_t lookups);

void node_stat(const struct node *n, struct stat *st);

/* Calls `each` for every entry of a directory but "." and "..". */
void node_list(struct node *dir, void (*each)(void *data, const char *name, uint64_t inode, mode_t mode), void *data);

int node_create_root(struct fs *fs);

/* Whether somebody but the superuser could ever write to it. */
bool node_writable(const struct node *n);

#endif
