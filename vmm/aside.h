/* SPDX-License-Identifier: Apache-2.0
 *
 * A moment's work of a process that may leave namespaces and identities behind, which a thread of the daemon may not. Any thread. */
#ifndef FORKFS_ASIDE_H
#define FORKFS_ASIDE_H

/* ThreadSanitizer may not take account of what such a process does in our memory, and takes every clone(2) for a fork. */
#ifdef __SANITIZE_THREAD__
#define IN_CHILD __attribute__((no_sanitize("thread"), noinline))
#define clone __clone
int __clone(int (*fn)(void *), void *stack, int flags, void *data, ...);
#else
#define IN_CHILD
#endif

/* Runs `child`, which only makes system calls and ends with SYS_exit, in our memory and with our descriptors, `flags` of clone(2) more, and waits for its end. No signal reaches it. Returns 0
 * once it has ended, however, or a negative errno: it was not started. */
int run_aside(int (*child)(void *data), void *data, int flags);

#endif
