/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/opens.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "vmm/base/cleanup.h"

/* One that does nothing but open files waits for its turn: the loop is everybody's. */
#define TURN_USEC 100000
#define TURN_MAX 200

/* linux/seccomp.h since 6.6: who asks and who answers take turns on one processor, without waking another. */
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1ul << 0)
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

struct asked {
	struct job job;
	struct opens *opens; /* NULL: nobody is to be answered for any more */
	struct seccomp_notif notif;
	char path[PATH_MAX];
	int result; /* of reading the path, of the work */
	struct opens_answer answer;
};

/* Stops at the end of the page that ends the string or can't be read. */
static int read_path(pid_t pid, uint64_t at, char *ret, size_t size)
{
	for (size_t got = 0; got < size;) {
		size_t n = 4096 - at % 4096;
		struct iovec to = { ret + got, n < size - got ? n : size - got }, from = { (void *)(uintptr_t)at, to.iov_len };
		ssize_t k = process_vm_readv(pid, &to, 1, &from, 1, 0);

		if (k <= 0)
			return k < 0 ? -errno : -EFAULT;
		if (memchr(ret + got, '\0', (size_t)k))
			return 0;
		got += (size_t)k;
		at += (uint64_t)k;
	}
	return -ENAMETOOLONG;
}

static bool is_at(const struct asked *a)
{
	return a->notif.data.nr == SYS_openat;
}

static void read_run(struct job *job)
{
	struct asked *a = container_of(job, struct asked, job);

	a->result = read_path((pid_t)a->notif.pid, a->notif.data.args[is_at(a)], a->path, sizeof a->path);
}

static int ask(const struct opens *o, struct asked *a)
{
	/* What was read is another's memory when the process has ended meanwhile. */
	if (ioctl(o->fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &a->notif.id))
		return -ESRCH;
	if (a->result < 0)
		return OPENS_PASS; /* the kernel says what is wrong with it */
	return o->answer(a->path, (int)a->notif.data.args[is_at(a) + 1], &a->answer, o->data);
}

/* In two steps. By SECCOMP_ADDFD_FLAG_SEND it would be one, which a signal of ours can divide (seen on 6.18): the process has its answer then, a descriptor 0 that it was never
 * given. In two it may be left with one descriptor too many when a signal of its own comes between, and asks again. */
static void reply(const struct opens *o, const struct asked *a, int result, int fd)
{
	struct seccomp_notif_resp resp = { .id = a->notif.id };
	struct seccomp_notif_addfd add = { .id = a->notif.id, .srcfd = (uint32_t)fd, .newfd_flags = O_CLOEXEC };
	int there = -1;

	if (result == 0) {
		do
			there = ioctl(o->fd, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
		while (there < 0 && errno == EINTR);
		result = there < 0 ? -errno : 0;
	}
	if (result == OPENS_PASS)
		resp.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	else if (result < 0)
		resp.error = result;
	else
		resp.val = there;
	ioctl(o->fd, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}

/* It keeps them for a successor of ours, and doesn't know of them. */
static void give_beside(struct opens *o, uint64_t id)
{
	for (int i = 0; o->beside && i < 2; i++) {
		struct seccomp_notif_addfd add = { .id = id, .srcfd = (uint32_t)o->beside[i], .newfd_flags = O_CLOEXEC };

		if (o->beside[i] >= 0)
			while (ioctl(o->fd, SECCOMP_IOCTL_NOTIF_ADDFD, &add) < 0 && errno == EINTR)
				;
	}
	o->beside = NULL;
}

static void finish(struct asked *a, int result)
{
	struct opens *o = a->opens;

	if (o) {
		o->asked = NULL;
		if (result == 0)
			give_beside(o, a->notif.id);
		if (result != -ESRCH)
			reply(o, a, result, a->answer.fd);
		sd_event_source_set_enabled(o->source, SD_EVENT_ON);
	}
	close_fd(&a->answer.fd);
	free(a);
}

static void work_run(struct job *job)
{
	struct asked *a = container_of(job, struct asked, job);

	a->result = a->answer.work->run(a->answer.work, a->path, &job->cancelled, &a->answer.fd);
}

static void work_done(struct job *job)
{
	struct asked *a = container_of(job, struct asked, job);
	bool wanted = a->opens && ioctl(a->opens->fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &a->notif.id) == 0;

	if (a->opens && a->opens->busy)
		a->opens->busy(false, a->opens->data);
	a->answer.work->done(a->answer.work, a->result, wanted);
	finish(a, wanted ? a->result : -ESRCH);
}

static void work(struct asked *a)
{
	if (a->opens->busy)
		a->opens->busy(true, a->opens->data);
	a->job.run = work_run;
	a->job.done = work_done;
	jobs_submit(a->opens->jobs, &a->job);
}

static void read_done(struct job *job)
{
	struct asked *a = container_of(job, struct asked, job);
	int r = a->opens ? ask(a->opens, a) : -ESRCH;

	if (r == OPENS_WORK)
		work(a);
	else
		finish(a, r);
}

/* One at a time: a process has no more than one worker. */
static int on_asked(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct opens *o = data;
	struct asked *a;

	if (!(revents & EPOLLIN)) {
		sd_event_source_set_enabled(source, SD_EVENT_OFF); /* nobody is left to ask */
		return 0;
	}
	a = calloc(1, sizeof *a);
	if (!a || ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &a->notif)) { /* it was killed meanwhile */
		free(a);
		return 0;
	}
	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	a->opens = o;
	a->answer.fd = -1;
	o->asked = a;
	a->job.run = read_run;
	a->job.done = read_done;
	jobs_submit(o->jobs, &a->job);
	return 0;
}

int opens_init(struct opens *o, sd_event *event, struct jobs *jobs, int listener)
{
	int r;

	o->fd = listener;
	o->jobs = jobs;
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP); /* an older kernel has no such thing */
	r = sd_event_add_io(event, &o->source, listener, EPOLLIN, on_asked, o);
	if (r >= 0)
		r = sd_event_source_set_ratelimit(o->source, TURN_USEC, TURN_MAX);
	if (r < 0)
		opens_finish(o);
	return r < 0 ? r : 0;
}

void opens_finish(struct opens *o)
{
	if (o->asked) {
		o->asked->opens = NULL;
		atomic_store(&o->asked->job.cancelled, true);
	}
	o->asked = NULL;
	o->source = sd_event_source_disable_unref(o->source);
	close_fd(&o->fd);
}
