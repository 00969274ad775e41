/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/handed.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STACK (64u << 10) /* bytes */

/* By its name, for which nobody is asked. */
static bool is_uffd(int fd)
{
	char path[32], target[64];
	ssize_t n;

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof target - 1);
	target[n < 0 ? 0 : n] = '\0';
	return !strcmp(target, "anon_inode:[userfaultfd]");
}

static void *close_it(void *data)
{
	close((int)(intptr_t)data);
	return NULL;
}

/* No worker: a few such closes would leave no others. */
static void close_aside(int fd)
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&thread, &attr, close_it, (void *)(intptr_t)fd))
		close(fd);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
}

int handed_uffd(int fd)
{
	if (fd < 0 || is_uffd(fd))
		return fd;
	close_aside(fd);
	return -1;
}
