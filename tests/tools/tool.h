/* SPDX-License-Identifier: Apache-2.0
 *
 * What the helpers of the mount tests share. Each says what happened on its standard output, an errno by its name, and exits with 0 when it could ask
 * at all; a usage error is 2. */
#ifndef FORKFS_TESTS_TOOL_H
#define FORKFS_TESTS_TOOL_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* "ok" for 0 and more, else the name of errno. */
static inline const char *outcome(ssize_t r)
{
	return r < 0 ? strerrorname_np(errno) : "ok";
}

static inline int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Prints and ends when `path` can't be opened. */
static inline int must_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0) {
		printf("open %s\n", outcome(fd));
		exit(0);
	}
	return fd;
}

/* Whether that thread of ours is in a read(2) in the kernel. */
static inline bool in_read(pid_t tid)
{
	char name[64];
	int number = -1;
	FILE *f;

	snprintf(name, sizeof name, "/proc/self/task/%d/syscall", (int)tid);
	f = fopen(name, "r");
	if (!f)
		return false;
	if (fscanf(f, "%d", &number) != 1)
		number = -1;
	fclose(f);
	return number == SYS_read;
}

#endif
