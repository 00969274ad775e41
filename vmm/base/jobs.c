/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/jobs.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#define IDLE_SECONDS 10

struct jobs {
	pthread_mutex_t lock;
	pthread_cond_t work;    /* a job waits, or the end has come */
	pthread_cond_t emptied; /* a thread has ended */
	/* guarded by lock */
	struct list waiting, finished;
	unsigned int threads, idle, queued;
	bool ending;
	/* the loop's */
	unsigned int limit;
	int wake;
	sd_event_source *source;
};

static void *worker(void *data)
{
	struct jobs *jobs = data;

	pthread_mutex_lock(&jobs->lock);
	for (;;) {
		struct timespec until;
		struct job *job;
		int r = 0;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += IDLE_SECONDS;
		while (list_empty(&jobs->waiting) && !jobs->ending && r == 0) {
			jobs->idle++;
			r = pthread_cond_timedwait(&jobs->work, &jobs->lock, &until);
			jobs->idle--;
		}
		job = list_first(&jobs->waiting, struct job, link);
		if (!job)
			break;
		list_remove(&job->link);
		jobs->queued--;
		pthread_mutex_unlock(&jobs->lock);
		job->run(job);
		pthread_mutex_lock(&jobs->lock);
		list_append(&jobs->finished, &job->link);
		eventfd_write(jobs->wake, 1);
	}
	jobs->threads--;
	pthread_cond_signal(&jobs->emptied);
	pthread_mutex_unlock(&jobs->lock);
	return NULL;
}

/* Returns whether there was anything to deliver. */
static bool deliver(struct jobs *jobs)
{
	struct list finished;
	struct job *job;
	bool any = false;

	pthread_mutex_lock(&jobs->lock);
	list_take(&finished, &jobs->finished);
	pthread_mutex_unlock(&jobs->lock);
	while ((job = list_first(&finished, struct job, link))) {
		list_remove(&job->link);
		job->done(job);
		any = true;
	}
	return any;
}

static int on_wake(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	eventfd_t n;

	(void)source;
	(void)revents;
	eventfd_read(fd, &n);
	deliver(data);
	return 0;
}

int jobs_create(struct jobs **ret, sd_event *event, unsigned int threads)
{
	struct jobs *jobs = calloc(1, sizeof *jobs);
	pthread_condattr_t attr;
	int r;

	if (!jobs)
		return -ENOMEM;
	jobs->limit = threads;
	list_init(&jobs->waiting);
	list_init(&jobs->finished);
	jobs->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (jobs->wake < 0) {
		r = -errno;
		free(jobs);
		return r;
	}
	r = sd_event_add_io(event, &jobs->source, jobs->wake, EPOLLIN, on_wake, jobs);
	if (r < 0) {
		close_fd(&jobs->wake);
		free(jobs);
		return r;
	}
	pthread_mutex_init(&jobs->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&jobs->work, &attr);
	pthread_cond_init(&jobs->emptied, NULL);
	pthread_condattr_destroy(&attr);
	*ret = jobs;
	return 0;
}

void jobs_destroy(struct jobs *jobs)
{
	if (!jobs)
		return;
	pthread_mutex_lock(&jobs->lock);
	jobs->ending = true;
	pthread_cond_broadcast(&jobs->work);
	while (jobs->threads)
		pthread_cond_wait(&jobs->emptied, &jobs->lock);
	pthread_mutex_unlock(&jobs->lock);
	while (deliver(jobs))
		; /* a done() may have submitted another, which then ran where it stood */
	sd_event_source_disable_unref(jobs->source);
	close_fd(&jobs->wake);
	pthread_cond_destroy(&jobs->work);
	pthread_cond_destroy(&jobs->emptied);
	pthread_mutex_destroy(&jobs->lock);
	free(jobs);
}

/* Signals are the loop's alone. Called with the lock held. */
static void add_thread(struct jobs *jobs)
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (!pthread_create(&thread, &attr, worker, jobs))
		jobs->threads++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
}

void jobs_submit(struct jobs *jobs, struct job *job)
{
	bool here = false;

	pthread_mutex_lock(&jobs->lock);
	if (!jobs->ending && jobs->idle <= jobs->queued && jobs->threads < jobs->limit)
		add_thread(jobs);
	if (jobs->threads) {
		list_append(&jobs->waiting, &job->link);
		jobs->queued++;
		pthread_cond_signal(&jobs->work);
	} else {
		here = true;
	}
	pthread_mutex_unlock(&jobs->lock);
	if (!here)
		return;
	job->run(job);
	jobs_deliver(jobs, job);
}

void jobs_deliver(struct jobs *jobs, struct job *job)
{
	pthread_mutex_lock(&jobs->lock);
	list_append(&jobs->finished, &job->link);
	pthread_mutex_unlock(&jobs->lock);
	eventfd_write(jobs->wake, 1);
}
