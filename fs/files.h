/* SPDX-License-Identifier: Apache-2.0
 *
 * The kinds of files there are; each is one file of statics plus this table of operations. */
#ifndef FORKFS_FILES_H
#define FORKFS_FILES_H

#include "fs/fs.h"

extern const struct kind text_kind;    /* rendered: row->render; commands: row->command */
extern const struct kind doctor_kind;  /* a text that a worker renders */
extern const struct kind state_kind;   /* a text whose conversation tells every change */
extern const struct kind clone_kind, many_kind, wait_kind; /* texts whose conversation answers */
extern const struct kind console_kind, log_kind, events_kind; /* records that grow */
extern const struct kind mem_kind;     /* guest RAM */
extern const struct kind dirty_kind;   /* what changed of it */
extern const struct kind member_kind;  /* a file of a snapshot */

/* mem's, for files that look at the same. */
void mem_close(struct file *f);

/* Commands of the table. */
void command_none(struct file *f, fuse_req_t req, const struct command *c, size_t size);
void command_config(struct file *f, fuse_req_t req, const struct command *c, size_t size);
void command_restore(struct file *f, fuse_req_t req, const struct command *c, size_t size);
void command_restore_many(struct file *f, fuse_req_t req, const struct command *c, size_t size);
void command_boot(struct file *f, fuse_req_t req, const struct command *c, size_t size);
void command_state(struct file *f, fuse_req_t req, const struct command *c, size_t size);
void command_wait(struct file *f, fuse_req_t req, const struct command *c, size_t size);

/* mkdir in snapshots/: the request is answered when the snapshot is there. */
void make_snapshot(struct node *dir, fuse_req_t req, const char *name);

/* Renderers of the table. */
void render_help(const struct node *n, uid_t reader, struct text *t);
void render_metrics(const struct node *n, uid_t reader, struct text *t);
void render_root_error(const struct node *n, uid_t reader, struct text *t);
void render_config(const struct node *n, uid_t reader, struct text *t);
void render_restore(const struct node *n, uid_t reader, struct text *t);
void render_nothing(const struct node *n, uid_t reader, struct text *t);
void render_state(const struct node *n, uid_t reader, struct text *t);
void render_status(const struct node *n, uid_t reader, struct text *t);
void render_maps(const struct node *n, uid_t reader, struct text *t);
void render_error(const struct node *n, uid_t reader, struct text *t);
void render_wait(const struct node *n, uid_t reader, struct text *t);
void render_shot_state(const struct node *n, uid_t reader, struct text *t);

/* How a fork has ended, one line; nothing while it hasn't. */
void print_end(const struct fork *f, struct text *t);

#endif
