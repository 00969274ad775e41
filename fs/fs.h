/* SPDX-License-Identifier: Apache-2.0
 *
 * The filesystem's own structures. One thread owns all of it. */
#ifndef FORKFS_FS_H
#define FORKFS_FS_H

#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>

#include <systemd/sd-event.h>

#include "vmm/base/signal.h"
#include "vmm/base/text.h"
#include "vmm/fork.h"
#include "fs/command.h"

struct fs {
	struct forks *forks;
	sd_event *event;
	struct fuse_session *session;
	sd_event_source *source;
	bool allow_other;
	void *nodes;            /* tsearch(3), those that are found again */
	struct node *root;
	struct list all_nodes, files;
	struct list kept;       /* requests that wait */
	struct timespec changed; /* when a fork last came or went */
	struct listener forks_changed;
	struct list errors;     /* the last failure at the root, one a user */
	struct text help, doctor;
	uid_t asker;            /* of the request under way */
	uint64_t arrived;       /* when it was read from the kernel: CLOCK_MONOTONIC, µs */
};

enum place {
	PLACE_NONE, /* a directory that stands nowhere in the table but for its own sake */
	PLACE_ROOT,
	PLACE_CONFIG,
	PLACE_FORK,
	PLACE_FORK_CONFIG,
	PLACE_SNAPSHOTS,
	PLACE_SHOT,
};

struct file;
struct node;
struct waiting_op;
struct waiting_state;

/* How the bytes of a file come about; see files.h for those there are. */
struct kind {
	/* Fills st_size and st_blocks, and times where the file has its own. */
	void (*stat)(const struct node *n, struct stat *st);
	/* NULL: nothing to do. Returns 0 or a negative errno. */
	int (*open)(struct file *f);
	void (*close)(struct file *f);
	/* Answer the request, now or later. */
	void (*read)(struct file *f, fuse_req_t req, size_t size, off_t offset);
	void (*write)(struct file *f, fuse_req_t req, const char *data, size_t size, off_t offset);
	/* Bytes from the conversation: how many there are (they are taken out), 0 none yet, -ENODATA: it has ended. NULL: reads of a read-write open are those of any other. */
	ssize_t (*hear)(struct file *f, char *buf, size_t size);
	/* Whether hear() would give something, or the end. */
	bool (*ready)(struct file *f);
	/* Ready POLL… bits of a read-only open. NULL: always readable. */
	unsigned int (*poll)(struct file *f);
	off_t (*seek)(struct file *f, off_t offset, int whence);
};

/* One row a file: all that lookup, getattr, readdir, open and help know of it. */
struct row {
	const char *name;
	enum place place;  /* where it stands */
	enum place inside; /* of a directory: where its own entries stand */
	mode_t mode;       /* type and permission bits of the owner; a fork's directory may share them */
	bool waits;        /* a write may have to wait: every lookup gives a new node, for the kernel locks a node while it writes */
	const struct kind *kind;
	void (*render)(const struct node *n, uid_t reader, struct text *t);             /* a text's content */
	void (*command)(struct file *f, fuse_req_t req, const struct command *c, size_t size); /* what a line written to it does */
	const char *help;
};

extern const struct row table[];
extern const size_t table_rows;

enum { ROW_ROOT, ROW_SHOT, ROW_FORK }; /* the first three rows, which have no name of their own; vmm/fork.h counts on ROW_SHOT being 1 */

/* What an inode stands for: a row, of a fork, of a snapshot, of a key. */
struct node {
	uint64_t inode;
	const struct row *row;
	struct fs *fs;
	struct fork *fork; /* a reference, or NULL */
	struct shot *shot; /* likewise */
	int key;           /* of config_keys, -1 */
	uint64_t lookups;
	unsigned int files; /* open ones */
	bool found_again;  /* stands in fs->nodes */
	struct list link;  /* in fs->all_nodes */
};

/* An open file. */
struct file {
	struct list link; /* in fs->files */
	struct node *node;
	struct fs *fs;
	bool talk;       /* opened read-write: a conversation */
	uid_t uid;       /* who opened it */
	gid_t gid;
	struct text text; /* one rendering; or what a conversation has still to say */
	size_t said;     /* bytes of text that were heard */
	bool ended;      /* the conversation says no more after text */
	bool began;      /* a command was given in it */
	uint64_t cursor; /* where a conversation stands in a record, in the file's own bytes */
	bool nonblock;   /* O_NONBLOCK, as of the request under way */
	uint64_t seen;   /* where the last read ended: what lies behind it is new */
	struct events_cursor event;
	int fd;          /* of files that are bytes */
	struct region region;
	struct region_view view;
	struct memory_source *source; /* of a snapshot's memory, or what is under the region; a reference */
	struct listener grown, changed;
	enum fork_state state; /* the last one that was read or told */
	struct waiting_op *op; /* the restore whose ids this conversation is to tell */
	struct waiting_state *waiting; /* the wait whose end it is to tell */
	struct list readers; /* kept reads, first come first served */
	struct fuse_pollhandle *poll;
};

/* Somebody's news: answers the reads that can be, and wakes who polls. */
void file_wake(struct file *f);

/* A command was given in this conversation: what it says begins anew. */
void file_say_begin(struct file *f);

/* The file is closed: what it still waits for isn't told to it any more. */
void file_op_detach(struct file *f);
void file_wait_detach(struct file *f);

/* Looks at the host anew, for fs->doctor; `done`, which may be NULL, is called when it is there. Returns 0 or -ENOMEM. */
int doctor_refresh(struct fs *fs, void (*done)(void *data), void *data);

extern const struct fuse_lowlevel_ops fs_ops;

int fs_create(struct fs **ret, struct forks *forks, bool allow_other);

/* Answers every request that waits still, with EINTR, and closes what is open: the session ends. */
void fs_end(struct fs *fs);
void fs_destroy(struct fs *fs);

/* The last failure at the root, of one user. Kept as `error` of the root shows it. */
void fs_set_error(struct fs *fs, uid_t uid, const struct failure *why);
const char *fs_error(const struct fs *fs, uid_t uid);

/* Answers with -why->code and makes the sentence the fork's error, or the root's for that user. */
void reply_failure(fuse_req_t req, struct fs *fs, struct fork *fork, const struct failure *why);

/* The same for a command that is malformed or makes no sense where it was written; the sentence names the fork. */
void refuse(fuse_req_t req, struct file *f, struct failure *why);

/* Who asks, for opening paths as that one: the same who opened the file, or root did. On failure the request is answered and NULL returned. */
struct caller *request_caller(fuse_req_t req, struct file *f);

#endif
