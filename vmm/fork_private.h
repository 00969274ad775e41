/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files that make up a fork share among themselves; nobody else includes it. */
#ifndef FORKFS_FORK_PRIVATE_H
#define FORKFS_FORK_PRIVATE_H

#include "vmm/fork.h"

/* Something a fork is busy with: who hears of its VM meanwhile. */
struct task {
	const char *name; /* for sentences: "a restore is under way" */
	/* The driver's request was answered. */
	void (*answered)(struct fork *f, const struct failure *why);
	/* The VM has ended; fork_release_vm() is the task's to call. */
	void (*exited)(struct fork *f, const siginfo_t *how);
	/* A capture that went on in the background has ended; may be NULL. */
	void (*captured)(struct fork *f);
	/* rmdir: give up, as soon as can be; then fork_idle(). */
	void (*removed)(struct fork *f);
};

/* fork.c: states and what is told of them. Keeps a reference of the caller's meanwhile. */
void fork_set_state(struct fork *f, enum fork_state state);

/* A fork for one of a launch's children; `id` NULL: one that nobody uses. As fork_create(), but a successor finds none until the launch has succeeded. */
int fork_create_for_launch(struct fork **ret, struct forks *all, const char *id, uid_t uid, gid_t gid, struct failure *why);

/* Writes the record, tells the listeners: for a change that is none of the state. Returns 0, or a negative errno of the record. */
int fork_changed(struct fork *f);

/* Returns 0, or -EBUSY with a sentence when the fork has a task or is removed. */
int fork_begin(struct fork *f, const struct task *task, void *data, struct failure *why);

/* The task is over. A removed fork goes on to its end. */
void fork_idle(struct fork *f);

/* fork_vm.c: the VM of a fork. */
extern const struct vm_watcher fork_watcher;

/* Begins a request of the driver's with config/timeout as its bound: the task's answered() follows. */
void fork_request(struct fork *f, void (*request)(struct vm *));
void fork_deadline_start(struct fork *f);
void fork_deadline_stop(struct fork *f);

/* For paging_watch(): the guest's memory can't be had any more. `data` is the fork. */
void fork_memory_broke(void *data, const struct failure *why);

/* Ends the VM: now, or when the capture that others wait for has ended. */
void fork_kill(struct fork *f);
void fork_capture_ended(struct fork *f);

/* Gives back what the VM had: the vm (whose process has ended), RAM, uid. */
void fork_release_vm(struct fork *f);

/* Has a worker remove the control group, if there is one; the name is cleared. */
void group_remove(struct forks *all, char name[40]);

/* What becomes of a fork whose VM ended on its own: exited or failed. */
void fork_vm_ended(struct fork *f, const siginfo_t *how);

/* A user id of the range that no VM has; 0: none is left. */
uid_t fork_take_uid(struct forks *all);

/* fork_dir.c: a fork's directory under the state directory. */
int fork_dir_create(struct fork *f, struct failure *why);

/* Writes record.json anew (a name aside, then rename). A failure is logged. */
int fork_dir_write(struct fork *f);

#define LAUNCH_PREFIX "launch-"

/* The records of forks with that `launch` count from now on, all at once. Returns 0 or a negative errno. */
int fork_dir_commit(const struct forks *all, uint64_t launch);
bool fork_dir_committed(const struct forks *all, uint64_t launch);

/* Then: the fork's record counts by itself; and when all do that of the launch goes. */
void fork_dir_settle(struct fork *f);
void fork_dir_forget_launch(const struct forks *all, uint64_t launch);

/* A successor ends and removes what is left of it. */
void fork_dir_mark_removed(const struct fork *f);

/* Opens the directory that is there already, of a fork of that serial. Returns 0 or a negative errno. */
int fork_dir_open(struct fork *f);

/* Opens a fresh console or log, in place of the old one: worker. Returns the descriptor, O_RDWR|O_APPEND, or a negative errno. */
int fork_dir_record(int dir, const char *name, uid_t uid, struct failure *why);

/* What a fork that is removed holds: taken apart on a worker, and then the fork is told as gone. */
void fork_dispose(struct fork *f);

/* adopt.c: takes over what an earlier daemon left under the state directory. */
void forks_adopt(struct forks *all);

/* fork.c: a fork as its record has it, but for its VM and snapshots; one that was removed is nobody's to find. Returns 0 or a negative errno. */
struct fork_record;
int fork_revive(struct fork **ret, struct forks *all, const struct fork_record *r, uint64_t serial);

/* fork_vm.c: leaves the VM to the next daemon. */
void fork_leave_vm(struct fork *f);

/* Removes a directory and all that is in it. Returns 0 or the negative errno of what is left. */
int remove_tree(int parent, const char *name);

/* fork.c: forgets the fork; what it has stays, for the next daemon. */
void fork_leave(struct fork *f);

/* shot.c */
void shot_drop(struct shot *s);

/* Forgets the snapshot; its files stay, for the next daemon. */
void shot_leave(struct shot *s);

/* From now on its path in the mount is a snapshot's: 0 or -ENOMEM. `f`: its fork. */
int shot_publish(const struct shot *s, const struct fork *f, struct snapshot *snapshot);

/* The fork has another name, owner or mode. */
void shots_moved(const struct fork *f);

/* A reference that keeps the files, too: the last one to go removes those of a snapshot that was dropped meanwhile. */
struct shot *shot_hold(struct shot *s);
void shot_let_go(struct shot *s, struct forks *all);

/* An event of this fork. */
void fork_event(struct fork *f, struct event_facts facts);

uint64_t now_us(void);

#endif
