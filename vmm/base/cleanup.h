/* SPDX-License-Identifier: Apache-2.0
 *
 * Scope-bound ownership: a variable marked so is given back at the end of its scope unless steal_fd() or steal_ptr() took it. */
#ifndef FORKFS_BASE_CLEANUP_H
#define FORKFS_BASE_CLEANUP_H

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Closes *fd when it is open and makes it -1. Keeps errno, so that it can stand on an error path. */
static inline void close_fd(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

static inline void free_ptr(void *p)
{
	void **at = p;

	free(*at);
	*at = NULL;
}

static inline int steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

#define steal_ptr(p) ({ __auto_type steal_at_ = (p); __auto_type stolen_ = *steal_at_; *steal_at_ = NULL; stolen_; })

#define AUTO_CLOSE __attribute__((cleanup(close_fd)))
#define AUTO_FREE __attribute__((cleanup(free_ptr)))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

#endif
