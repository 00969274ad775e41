/* SPDX-License-Identifier: Apache-2.0
 *
 * FUSE_INTERRUPT comes for any signal, and only once: a shell's SIGCHLD must not cancel its write, and the ^C that comes after that must. So the task's pending signals
 * are looked at, and looked at again for as long as the request waits. */
#include "fs/kept.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define LOOK_AGAIN_US 20000

static uint64_t mask_of(const char *status, const char *key)
{
	const char *at = strstr(status, key);

	return at ? strtoull(at + strlen(key), NULL, 16) : 0;
}

/* Whether the task has been told to end; also true of one that is no more. */
static bool told_to_end(pid_t tid)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGKILL };
	uint64_t pending, ends = 0;
	char path[40], status[4096];
	AUTO_CLOSE int fd = -1;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/status", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, status, sizeof status - 1);
	if (n <= 0)
		return true;
	status[n] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		ends |= 1ull << (signals[i] - 1);
	pending = mask_of(status, "\nSigPnd:") | mask_of(status, "\nShdPnd:");
	return pending & ends & ~(mask_of(status, "\nSigBlk:") & ~(1ull << (SIGKILL - 1)));
}

static int look(sd_event_source *source, uint64_t usec, void *data)
{
	struct kept *k = data;

	(void)usec;
	if (told_to_end(k->tid)) {
		k->look = sd_event_source_disable_unref(k->look);
		k->interrupted(k);
		return 0;
	}
	sd_event_source_set_time_relative(source, LOOK_AGAIN_US);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* libfuse may call this while it holds the request: nothing is answered from here. */
static void on_interrupt(fuse_req_t req, void *data)
{
	struct kept *k = data;

	(void)req;
	if (!k->look)
		sd_event_add_time_relative(k->fs->event, &k->look, CLOCK_MONOTONIC, 0, 1000, look, k);
}

void kept_init(struct kept *k, struct fs *fs, fuse_req_t req, void (*interrupted)(struct kept *))
{
	*k = (struct kept){ .fs = fs, .req = req, .tid = fuse_req_ctx(req)->pid, .interrupted = interrupted };
	list_init(&k->queue);
	list_append(&fs->kept, &k->link);
	fuse_req_interrupt_func(req, on_interrupt, k);
}

fuse_req_t kept_answer(struct kept *k)
{
	fuse_req_t req = k->req;

	if (!req)
		return NULL;
	k->req = NULL;
	list_remove(&k->link);
	list_remove(&k->queue);
	k->look = sd_event_source_disable_unref(k->look);
	fuse_req_interrupt_func(req, NULL, NULL);
	return req;
}
