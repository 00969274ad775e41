/* SPDX-License-Identifier: Apache-2.0
 *
 * record.json: what a successor of the daemon needs to know of a fork. The daemon writes it for itself, in a directory that is nobody else's. */
#ifndef FORKFS_FORK_RECORD_H
#define FORKFS_FORK_RECORD_H

#include "vmm/fork.h"
#include "vmm/open_files.h"

#define RECORD "record.json"
#define RECORD_OF_LAUNCH "launch.json" /* of one of many: it counts once forks/launch-NUMBER is there */
#define RECORD_OF_REMOVED "removed.json" /* the name of a fork's that is on its way out */
#define FORK_RECORD_FORMAT 2 /* one of another is not understood */
#define FORK_RECORD_MAX (4u << 20) /* bytes */

/* What its guest's pages come from while they are missing, or are compared with. All zeros where there is no such file. */
struct origin_record {
	bool present;
	bool lazy;            /* some may be missing still */
	bool captured;        /* they are of a snapshot that a daemon took, which may not be whole yet */
	bool delta;           /* pages is a few pages over base; of a private memory base is what it maps */
	enum fill fill;
	struct file_id pages, base;
};

struct vm_record {
	pid_t pid;
	uint64_t start_time;
	char driver[16];
	struct driver_program program;
	uid_t uid;
	char group[40];       /* its control group, "" none */
	bool from_boot;
	char backend[16], ram_name[FORK_ID_MAX + 1];
	char generation[40], vsock[64]; /* "" none */
	struct recipe recipe;
	bool private;         /* it maps `ram` private */
	struct file_id ram;
	uint64_t at;
	bool has_disk;        /* its guest writes a disk of its own */
	uint64_t saved;       /* the snapshot that was taken since its guest ran, 0 none */
	bool noted;           /* what it writes is noted by the kernel */
	struct origin_record origin;
};

struct shot_record {
	uint64_t serial;
	char name[FORK_ID_MAX + 1];
	char path[4352];      /* of its directory */
	time_t made;
	bool described;       /* all but its memory is there, and the instant of that is past */
	bool complete, delta;
	bool dropped;         /* nobody can come to it any more; children wait for its memory */
	struct file_id base;  /* what a delta's pages lie over */
};

struct fork_record {
	char id[FORK_ID_MAX + 1];
	bool removed;         /* it is a RECORD_OF_REMOVED: whoever found it says so */
	uint64_t launch;      /* of a RECORD_OF_LAUNCH */
	uid_t uid;
	gid_t gid;
	mode_t mode;
	enum fork_state state;
	struct config config;
	char error[1024], exit[160], snapshot[4097];
	double restore_ms;
	time_t started;
	bool has_vm;
	struct vm_record vm;
	struct shot_record *shots;
	size_t shot_count;
};

/* Of a fork whose launch nobody has been told of yet it says that the fork is empty. Returns 0, -ENOMEM or another negative errno; the caller finishes it either way. */
int fork_record_take(struct fork_record *ret, const struct fork *f);

/* The JSON, the caller's to free(); NULL: no memory. */
char *fork_record_print(const struct fork_record *r);

/* Returns 0; -EINVAL, -EOPNOTSUPP (another format), with a sentence; -ENOMEM. The caller finishes it either way; of one that can't be read pid and start_time may be there
 * all the same, pid 0: none. */
int fork_record_parse(struct fork_record *ret, const char *json, size_t n, struct failure *why);
void fork_record_finish(struct fork_record *r);

#endif
