/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernel's struct sched_attr (linux/sched/types.h; libc has it since 2.41), and what is done with it beyond a process's start. Any thread. */
#ifndef FORKFS_SCHEDULING_H
#define FORKFS_SCHEDULING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct sched_attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

/* The thread of the process that is named so in /proc/PID/task/TID/comm, 0: there is none. */
pid_t thread_named(pid_t process, const char *name);

/* Both do nothing to a thread that isn't the process's any more: its number may be another's.
 *
 * Whoever waits for an answer of this thread's has it run before all that has no real-time priority: a virtual CPU that it has just woken doesn't give way before the next tick.
 * Threads that it starts are as usual. Takes privilege; without it nothing changes. It can't stay so: RLIMIT_RTTIME bounds it (process_spec.limits). */
void thread_hurry(pid_t process, pid_t thread);

/* As usual again: `nice`, and a slice of so many nanoseconds. */
void thread_calm(pid_t process, pid_t thread, int nice, uint64_t slice);

#endif
