/* SPDX-License-Identifier: Apache-2.0
 *
 * A VMM's process: spawned confined, watched by pidfd, never left a zombie. It lives on when the daemon dies. */
#ifndef FORKFS_PROCESS_H
#define FORKFS_PROCESS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "vmm/base/failure.h"
#include "vmm/confinement.h"

#define PROCESS_LIMITS 4

/* What the process gets; all is borrowed for the call. It gets nothing else: every other descriptor is closed, the environment is `envp` alone,
 * it has a session of its own, the signal mask and handlers are reset. */
struct process_spec {
	const char *path;   /* absolute, or a name looked up in PATH */
	char *const *argv;  /* NULL-terminated */
	char *const *envp;
	const int *fds;     /* descriptors that it keeps under their own numbers (so argv can say /proc/self/fd/N) */
	size_t fd_count;
	int output;         /* its stdout and stderr; stdin is /dev/null */
	const int *streams; /* two descriptors, its stdin and stdout instead; NULL: as said */
	bool drop;          /* become uid and gid, no groups, no capabilities; else it stays who the daemon is */
	uid_t uid;
	gid_t gid;
	const int *groups;  /* CGROUP_PLACES of cgroup.h's descriptors, -1: none; NULL: it stays in the daemon's control groups */
	const struct confinement *files; /* it may open only that by name; NULL: it is not confined so */
	int netns;          /* a network namespace to join first, -1: stay */
	uint64_t slice;     /* nanoseconds of a processor that its threads get at once where others wait (Linux 6.12), 0: as usual */
	struct process_limit {
		int resource; /* RLIMIT_ */
		rlim_t max;   /* soft and hard, as far as the daemon has it itself; 0: as it is */
	} limits[PROCESS_LIMITS];
	int oom_score;      /* more than the daemon's own oom_score_adj: the kernel, out of memory, ends it before the daemon, of which all VMs are */
	int *ret_opens;     /* not NULL: from exec(2) on its opens of files are asked about here, for opens.h; it keeps one itself, for a successor of the daemon. TUNSETIFF
			     * succeeds and does nothing: it is given tap devices that are made (tap.h) */
};

struct process {
	pid_t pid; /* 0: none */
	int pidfd;
	uint64_t start_time; /* field 22 of /proc/PID/stat: tells a recycled pid */
	bool adopted;        /* a former daemon started it */
	/* the loop's */
	sd_event_source *source;
	void (*exited)(struct process *p, const siginfo_t *how, void *data);
	void *data;
};

/* Blocks until exec(2) has succeeded or failed: call it on a worker. The process has no_new_privs. Returns 0; -ENOENT no such program; -EAGAIN or
 * -ENOMEM no room; whatever else a step failed with, the sentence says which. *ret is untouched on failure and nothing is left. */
int process_spawn(struct process *ret, const struct process_spec *spec, struct failure *why);

/* Takes hold of a process that another daemon spawned: `pid`, if it is still the one that began at `start_time`. Any thread. Returns 0, -ESRCH it has ended, or another
 * negative errno; *ret is untouched on failure. */
int process_adopt(struct process *ret, pid_t pid, uint64_t start_time);

/* Whether it is the daemon itself, what it started, or what it took hold of. Any thread. */
bool process_is_ours(pid_t pid);

/* Calls `exited` on the loop, once, after the process has ended and was reaped. Of one that was adopted, and so is another's to reap, how->si_code is 0 where
 * that can't be found out any more. Returns 0 or a negative errno. */
int process_watch(struct process *p, sd_event *event, void (*exited)(struct process *, const siginfo_t *, void *), void *data);

/* SIGKILL by pidfd. Harmless when it has ended. */
void process_kill(struct process *p);

/* Kills it, waits until it has ended, and closes: one that isn't watched, and that no guest or user has anything to do with yet. */
void process_end(struct process *p);

/* Closes and stops watching. One that still runs goes on and is reaped by nobody: kill it and wait for exited() first. */
void process_finish(struct process *p);

/* Field 22 of /proc/PID/stat, in clock ticks since the host's boot. Returns 0, -ESRCH or another negative errno. */
int process_start_time(pid_t pid, uint64_t *ret);

/* "ended with status 1", "was killed by signal 9 (Killed)", "ended, how is unknown". Returns buf. */
char *process_exit_text(const siginfo_t *how, char *buf, size_t n);

#endif
