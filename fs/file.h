/* SPDX-License-Identifier: Apache-2.0
 *
 * Open files: what the requests on them have in common. */
#ifndef FORKFS_FILE_H
#define FORKFS_FILE_H

#include "fs/fs.h"

/* Opens the node for a request with open(2)'s flags. Returns 0 or a negative errno. */
int file_open(struct node *n, uid_t uid, gid_t gid, int flags, struct file **ret);
void file_close(struct file *f);

void file_read(struct file *f, fuse_req_t req, size_t size, off_t offset, bool nonblock);
void file_write(struct file *f, fuse_req_t req, const char *data, size_t size, off_t offset);
void file_poll(struct file *f, fuse_req_t req, struct fuse_pollhandle *ph);

/* Answers with the bytes of `t` at offset. */
void reply_slice(fuse_req_t req, const char *data, size_t len, size_t size, off_t offset);

#endif
