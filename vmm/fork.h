/* SPDX-License-Identifier: Apache-2.0
 *
 * Forks: what the directories of the mount stand for. All of this belongs to the loop's thread: nothing here blocks, nothing here has a lock. Others read
 * the structs as they like; only vmm/ writes them. */
#ifndef FORKFS_FORK_H
#define FORKFS_FORK_H

#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>
#include <time.h>

#include "vmm/base/jobs.h"
#include "vmm/base/signal.h"
#include "vmm/caller.h"
#include "vmm/config.h"
#include "vmm/driver.h"
#include "vmm/events.h"
#include "vmm/memory/region.h"
#include "vmm/metrics.h"
#include "vmm/origin.h"
#include "vmm/paging.h"
#include "vmm/record.h"
#include "vmm/recipe.h"

#define FORK_ID_MAX 64
#define FORKS_AT_ONCE_MAX 1000

enum fork_state {
	FORK_EMPTY,     /* no VM yet */
	FORK_RESTORING, /* being restored or booted */
	FORK_RUNNING,
	FORK_PAUSED,
	FORK_EXITED,    /* the VM has ended by itself or was stopped */
	FORK_FAILED,    /* a restore failed, or the VM died */
	FORK_STATES,
};

/* Something asked for that takes a while. done() is called exactly once, never from inside the call that began it: why NULL, or why not. After op_cancel() it is still
 * called, perhaps from inside, when what was begun is undone, with ECANCELED (or with success, when that came first). */
struct op {
	void (*done)(struct op *op, const struct failure *why, void *data);
	void *data;
	void (*cancel)(struct op *op); /* this and runner are set by whoever runs the op */
	void *runner;
};

struct task;

/* A snapshot that was taken of a fork: an entry of snapshots/. */
enum shot_state { SHOT_WRITING, SHOT_COMPLETE, SHOT_FAILED };

struct shot {
	struct list link;
	unsigned int refs;
	uint64_t serial;
	char name[FORK_ID_MAX + 1];
	enum shot_state state;
	struct timespec made;
	struct fork *fork;     /* NULL once it is dropped */
	int dir;               /* O_PATH, where its members are */
	int parent;            /* O_PATH, the directory that holds it */
	char file[224];        /* its name in there */
	char *path;            /* the whole of it; NULL: no memory for that */
	struct recipe recipe;
	struct snapshot *snapshot; /* what is restored; NULL: it can't be, not yet or not any more */
	unsigned int holds;        /* its making and its capture: the files stay until these have ended */
};

/* What a successor of the daemon is to find of a fork. */
enum fork_known {
	FORK_KNOWN,      /* all that it is */
	FORK_LAUNCHING,  /* what it was before its restore or boot, which nobody has been told of yet */
	FORK_OF_LAUNCH,  /* nothing: it came into being for a launch, and will not have been if that fails */
};

struct fork {
	struct list link; /* in forks->list, or forks->leaving once it is removed */
	struct forks *all;
	unsigned int refs;
	uint64_t serial;  /* never used twice: the directory's inode number comes from it, and its name in the state directory */
	char id[FORK_ID_MAX + 1];
	uid_t uid;
	gid_t gid;
	mode_t mode;      /* permission bits of its directory */
	enum fork_state state;
	enum fork_known known;
	bool recorded;           /* the last launch has been */
	uint64_t launch;         /* it counts only together with the others of that launch, 0: by itself */
	struct timespec changed; /* when the state last did, CLOCK_REALTIME */
	bool removed;     /* rmdir has taken it out of the tree */
	bool gone;        /* and there is nothing left of it but what files that are open still show */
	unsigned int files; /* that are open */
	struct config config;
	char error[sizeof((struct failure *)0)->text]; /* the last failure, "" none */
	struct record console, log;
	struct list shots;
	struct list listeners; /* state, name, owner or shots changed, or it was removed */
	struct list typable;   /* the console takes bytes again, or never will */
	int dir;          /* O_PATH, its own directory under the state directory */

	/* The VM, while there is one. */
	const struct driver *driver;
	struct driver_program program;
	struct vm *vm;
	uid_t vm_uid;     /* 0: not one of its own */
	char group[40];   /* its control group, "" none */
	struct region ram;
	uint64_t promised;  /* bytes of RAM that a launch will give it */
	char ram_name[FORK_ID_MAX + 1]; /* the memfd is "forkfs:" and this: a name that it had when it was made */
	char backend[16];               /* as config/memory_backend has it */
	struct origin *origin;          /* what it was restored from, or NULL */
	struct paging *paging;          /* who serves its pages, or NULL: nothing is missing and nobody looks */
	struct recipe recipe;
	char snapshot[4097]; /* path it was restored from, "" none */
	bool from_boot;
	char vsock[64];      /* of a VM that was taken over: what vm->vsock points to */
	double restore_ms;   /* -1 unknown */
	struct timespec started;
	char exit[160];      /* how the VM ended, "" it hasn't */
	uint64_t saved;      /* the serial of the last snapshot that was taken of it since the guest ran, 0 none */
	bool stopping;       /* somebody asked for the end */

	/* What it is busy with: at most one thing. */
	const struct task *task;
	void *task_data;
	struct job disposal;
	bool remains;              /* its directory could not be removed */
	sd_event_source *deadline; /* of the driver's request under way */
	bool timed_out;
	sd_event_source *turn;     /* a VMM's own stop or resume was told of just now */
	bool turned;               /* likewise: it runs */
	sd_event_source *learning; /* when what it asked for is published */
	bool learned;              /* that has been done */
	size_t dirty_size;         /* bytes that `dirty` had last */
	struct capture *capture; /* of its RAM, that goes on while the guest runs */
	bool kill_due;           /* when that has ended */
	char not_live[sizeof((struct failure *)0)->text]; /* why its guest stood still for the whole of the last snapshot, "" it didn't */
	char lost[sizeof((struct failure *)0)->text]; /* why its memory can't be had any more, "" it can */
};

struct forks {
	sd_event *event;
	struct jobs *jobs;
	struct config config, started; /* as it is, and as it was when the daemon began */
	struct events events;
	struct metrics metrics;
	char state_path[3800];
	int state_fd, lock_fd, forks_fd;
	char memory_path[256];  /* where snapshots "in memory" are */
	bool root;              /* the daemon may drop to uids of the range */
	uid_t owner;            /* who mounted */
	struct caller *self;    /* the daemon, as who it opens what is its own */
	int netns;              /* an empty network namespace for the VMMs, -1 none */
	struct pool *pool;      /* VMMs that wait */
	void *by_id;            /* tsearch(3) */
	struct list list, leaving;
	unsigned int count;
	uint64_t next_serial;
	unsigned int next_clone;
	uint32_t next_uid;
	unsigned int adopting;  /* VMs of a former daemon that haven't answered yet */
	bool ending;            /* nothing new may begin */
	bool keeping;           /* the VMs are left to the next daemon */
	struct list listeners;  /* a fork came, went or changed its name; the last one is gone */
};

const char *fork_state_name(enum fork_state s);

/* The state of that name, or -1. */
int fork_state_find(const char *name);

/* Makes the state directory ready, locked against a second daemon, and begins to take over what an earlier daemon left behind (forks_adopted()). Returns 0; -EBUSY another daemon
 * has it; other errnos with a sentence. */
int forks_create(struct forks **ret, sd_event *event, const char *state_path, const struct config *config, struct failure *why);

/* Whether every VM of an earlier daemon has answered, or never will; all->listeners tells when. */
bool forks_adopted(const struct forks *all);

/* Instead of forks_end(): nothing new begins; when what is under way is done forks_gone() says so. */
void forks_keep(struct forks *all);

/* Then: forgets the forks; their VMs and files stay for the next daemon. */
void forks_leave(struct forks *all);

/* Begins to remove every fork; forks->listeners tells as they go, forks_gone() when all are. */
void forks_end(struct forks *all);
bool forks_gone(const struct forks *all);

/* Waits for what workers still do and delivers it; nothing that needs a worker may be begun afterwards. */
void forks_drain(struct forks *all);
void forks_destroy(struct forks *all);

/* Whether `id` may be a fork's name: [A-Za-z0-9][A-Za-z0-9._-]{0,63} and none of the root's files. */
bool fork_id_valid(const char *id);

struct fork *fork_find(const struct forks *all, const char *id);

/* Whether the limits of each user are this one's, too: not root's, nor those of who mounted, for config/ is theirs. */
bool forks_bound(const struct forks *all, uid_t uid);

/* Whether that user may have so many more forks. Returns 0 or -ENOSPC: config/forks_max or config/user_forks_max. */
int forks_room(const struct forks *all, uid_t uid, unsigned int more, struct failure *why);

/* An empty fork that belongs to uid and gid. Returns 0; -EINVAL the id; -EEXIST; -ENOSPC as forks_room(); -ENOMEM; -ESHUTDOWN the daemon is ending. */
int fork_create(struct fork **ret, struct forks *all, const char *id, uid_t uid, gid_t gid, struct failure *why);

/* An empty fork with an id nobody uses: "f0", "f1" … */
int fork_clone(struct fork **ret, struct forks *all, uid_t uid, gid_t gid, struct failure *why);

/* Takes it out of the tree at once; its VM is killed, what it holds is given back behind it. */
void fork_remove(struct fork *f);

/* Makes the sentence the fork's `error` and logs it. */
void fork_set_error(struct fork *f, const struct failure *why);

/* Returns 0, -EINVAL, -EEXIST. */
int fork_rename(struct fork *f, const char *id, struct failure *why);

/* New owner, group or mode; (uid_t)-1, (gid_t)-1, (mode_t)-1 leave it. */
void fork_own(struct fork *f, uid_t uid, gid_t gid, mode_t mode);

/* One of the daemon's settings, as config_set(); the next daemon has it, too. */
int forks_configure(struct forks *all, enum config_id id, const char *value, struct failure *why);

/* One of its settings, as config_set(). What it changes of a VM that runs already: mem_write and console_max. */
int fork_configure(struct fork *f, enum config_id id, const char *value, struct failure *why);

struct fork *fork_ref(struct fork *f);
void fork_unref(struct fork *f);

/* Nobody has a file of it open any more, or it is gone: with both its descriptors are closed. */
void fork_give_back(struct fork *f);

/* Beginning what takes a while: 0 and op->done() follows; or a negative errno at once, with a sentence, and nothing was begun. `since` is CLOCK_MONOTONIC in µs, when the request
 * arrived. -EBUSY: the fork is not in a state for it. */
int fork_restore(struct fork *f, struct caller *c, const char *path, uint64_t since, struct op *op, struct failure *why);
int fork_boot(struct fork *f, struct caller *c, const char *path, uint64_t since, struct op *op, struct failure *why);

/* `count` new forks of one snapshot, all or nothing: PREFIX0 …, or ids as fork_clone() gives them for a prefix of NULL. Their ids, one a line, are in *ret_ids when op->done() tells of
 * success; the caller owns it. */
int forks_restore(struct forks *all, struct caller *c, const char *path, unsigned int count, const char *prefix, uint64_t since,
		  struct text *ret_ids, struct op *op, struct failure *why);

/* FORK_RUNNING, FORK_PAUSED or FORK_EXITED (which ends the VM). */
int fork_turn(struct fork *f, enum fork_state to, struct op *op, struct failure *why);

/* Takes a snapshot: done when the guest goes on and the snapshot can be restored, though its memory may still be being written. */
int fork_shoot(struct fork *f, const char *name, struct op *op, struct failure *why);
struct shot *fork_shot(const struct fork *f, const char *name);

/* Drops it; who has it open or was restored from it keeps what it has. One that is still being written is given up, unless somebody was restored from it. Returns 0 or -EBUSY:
 * it is being taken. */
int shot_remove(struct shot *s, struct failure *why);
struct shot *shot_ref(struct shot *s);
void shot_unref(struct shot *s);
const char *shot_state_name(enum shot_state s);

/* A descriptor of one of its members, read-only; for any thread. Returns it or a negative errno. */
int shot_open(const struct shot *s, const char *member);

/* Gives up what was begun: op->done() comes when it is undone. */
static inline void op_cancel(struct op *op)
{
	if (op->cancel)
		op->cancel(op);
}

/* Types into the console. Returns bytes taken; -EAGAIN: f->typable tells; -EBUSY no VM is there. */
ssize_t fork_type(struct fork *f, const void *data, size_t n);

/* Bytes of guest RAM that are there: what the fork's memory costs now. */
uint64_t fork_memory(const struct fork *f);

#endif
