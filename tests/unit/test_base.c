/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/failure.h"
#include "vmm/base/jobs.h"
#include "vmm/base/log.h"
#include "vmm/base/signal.h"
#include "vmm/base/text.h"

Test(failure, sentence)
{
	struct failure f = { 0 };

	cr_assert_eq(fail(&f, ENOENT, "no snapshot \"%s\"", "x"), -ENOENT);
	cr_assert_eq(f.code, ENOENT);
	cr_assert_str_eq(f.text, "no snapshot \"x\"");
	cr_assert_eq(fail_within(&f, "fork %s", "a"), -ENOENT);
	cr_assert_str_eq(f.text, "fork a: no snapshot \"x\"");
	cr_assert_eq(fail_errno(&f, EACCES, "/srv/%d", 7), -EACCES);
	cr_assert_str_eq(f.text, "/srv/7: Permission denied");
	cr_assert_eq(f.code, EACCES);
}

Test(failure, is_one_line)
{
	struct failure f = { 0 };

	fail(&f, EINVAL, "a\nb\tc\x7f%s", "\r");
	cr_assert_str_eq(f.text, "a?b?c??");
}

Test(failure, nobody_asks_why)
{
	cr_assert_eq(fail(NULL, EPERM, "x"), -EPERM);
	cr_assert_eq(fail_errno(NULL, EPERM, "x"), -EPERM);
}

Test(failure, is_cut)
{
	struct failure f = { 0 };
	char path[3000];

	memset(path, 'p', sizeof path - 1);
	path[sizeof path - 1] = '\0';
	cr_assert_eq(fail_errno(&f, ENOENT, "%s", path), -ENOENT);
	cr_assert_eq(strlen(f.text), sizeof f.text - 1);
	cr_assert_eq(fail_within(&f, "fork a"), -ENOENT);
	cr_assert_eq(strncmp(f.text, "fork a: ppp", 11), 0);
	cr_assert_eq(strlen(f.text), sizeof f.text - 1);
}

Test(text, grows)
{
	AUTO_TEXT struct text t = { 0 };

	cr_assert_null(t.data);
	text_append(&t, "", 0);
	for (int i = 0; i < 1000; i++)
		text_printf(&t, "%03d;", i);
	text_puts(&t, "end");
	text_append(&t, "a\0b", 3);
	cr_assert_not(t.failed);
	cr_assert_eq(t.len, 4006);
	cr_assert_eq(strncmp(t.data, "000;001;", 8), 0);
	cr_assert_eq(strcmp(t.data + 3996, "999;enda"), 0);
	cr_assert_eq(t.data[t.len - 1], 'b');
	cr_assert_eq(t.data[t.len], '\0');
	text_finish(&t);
	cr_assert_null(t.data);
	cr_assert_eq(t.len, 0);
}

struct item {
	struct list link;
	int value;
};

static int sum(struct list *head)
{
	struct item *i;
	int n = 0;

	list_for_each(i, head, link)
		n = n * 10 + i->value;
	return n;
}

Test(list, order_and_removal)
{
	struct list head, other;
	struct item a = { .value = 1 }, b = { .value = 2 }, c = { .value = 3 }, *i;

	list_init(&head);
	cr_assert(list_empty(&head));
	cr_assert_null(list_first(&head, struct item, link));
	list_append(&head, &a.link);
	list_append(&head, &b.link);
	list_append(&head, &c.link);
	cr_assert_eq(sum(&head), 123);
	list_remove(&b.link);
	cr_assert_eq(sum(&head), 13);
	list_remove(&c.link);
	list_remove(&b.link);
	cr_assert_eq(sum(&head), 1, "a second removal does nothing");
	list_append(&head, &c.link);
	list_append(&head, &b.link);
	list_for_each(i, &head, link)
		list_remove(&i->link);
	cr_assert(list_empty(&head));
	list_append(&head, &a.link);
	list_append(&head, &b.link);
	list_take(&other, &head);
	cr_assert(list_empty(&head));
	cr_assert_eq(sum(&other), 12);
	cr_assert_eq(list_first(&other, struct item, link), &a);
	list_take(&other, &head);
	cr_assert(list_empty(&other));
}

static struct list listeners;
static struct listener first, second, late;
static int heard;

static void on_late(struct listener *l)
{
	(void)l;
	heard += 100;
}

static void on_first(struct listener *l)
{
	heard += 1;
	list_remove(&l->link);
	list_remove(&second.link);
	list_append(&listeners, &late.link);
}

static void on_second(struct listener *l)
{
	(void)l;
	heard += 10;
}

Test(signal, listeners_come_and_go)
{
	list_init(&listeners);
	listener_init(&first, on_first);
	listener_init(&second, on_second);
	listener_init(&late, on_late);
	list_append(&listeners, &first.link);
	list_append(&listeners, &second.link);
	signal_emit(&listeners);
	cr_assert_eq(heard, 1, "the removed and the new one are not told: %d", heard);
	signal_emit(&listeners);
	cr_assert_eq(heard, 101);
	signal_emit(&listeners);
	cr_assert_eq(heard, 201, "one that was told is told again");
}

struct work {
	struct job job;
	pthread_t ran_on;
	int runs, dones;
};

static void run(struct job *job)
{
	struct work *w = container_of(job, struct work, job);

	w->ran_on = pthread_self();
	w->runs++;
}

static void wait_for_cancel(struct job *job)
{
	while (!atomic_load(&job->cancelled))
		usleep(1000);
	run(job);
}

static void done(struct job *job)
{
	container_of(job, struct work, job)->dones++;
}

static struct jobs *start(sd_event **event, unsigned int threads)
{
	struct jobs *jobs;

	cr_assert_geq(sd_event_new(event), 0);
	cr_assert_eq(jobs_create(&jobs, *event, threads), 0);
	return jobs;
}

Test(jobs, done_is_called_on_the_loop, .timeout = 20)
{
	struct work works[50] = { 0 };
	sd_event *event;
	struct jobs *jobs = start(&event, 3);
	int left = 50;

	for (int i = 0; i < 50; i++) {
		works[i].job = (struct job){ .run = run, .done = done };
		jobs_submit(jobs, &works[i].job);
	}
	while (left) {
		cr_assert_geq(sd_event_run(event, UINT64_MAX), 0);
		left = 0;
		for (int i = 0; i < 50; i++)
			left += !works[i].dones;
	}
	for (int i = 0; i < 50; i++) {
		cr_assert_eq(works[i].runs, 1);
		cr_assert_eq(works[i].dones, 1);
		cr_assert_not(pthread_equal(works[i].ran_on, pthread_self()));
	}
	jobs_destroy(jobs);
	sd_event_unref(event);
}

Test(jobs, destroy_drops_nothing, .timeout = 20)
{
	struct work works[20] = { 0 };
	sd_event *event;
	struct jobs *jobs = start(&event, 2);

	for (int i = 0; i < 20; i++) {
		works[i].job = (struct job){ .run = run, .done = done };
		jobs_submit(jobs, &works[i].job);
	}
	jobs_destroy(jobs);
	for (int i = 0; i < 20; i++) {
		cr_assert_eq(works[i].runs, 1, "job %d", i);
		cr_assert_eq(works[i].dones, 1, "job %d", i);
	}
	jobs_destroy(NULL);
	sd_event_unref(event);
}

static struct jobs *submit_to;

static void done_submits_again(struct job *job)
{
	if (!container_of(job, struct work, job)->dones++)
		jobs_submit(submit_to, job);
}

Test(jobs, destroy_waits_for_what_a_done_submits, .timeout = 20)
{
	struct work works[20] = { 0 };
	sd_event *event;

	submit_to = start(&event, 2);
	for (int i = 0; i < 20; i++) {
		works[i].job = (struct job){ .run = run, .done = done_submits_again };
		jobs_submit(submit_to, &works[i].job);
	}
	jobs_destroy(submit_to);
	for (int i = 0; i < 20; i++) {
		cr_assert_eq(works[i].runs, 2, "job %d", i);
		cr_assert_eq(works[i].dones, 2, "job %d", i);
	}
	sd_event_unref(event);
}

Test(jobs, one_that_waits_stops_no_other, .timeout = 20)
{
	struct work slow = { .job = { .run = wait_for_cancel, .done = done } }, quick = { .job = { .run = run, .done = done } };
	sd_event *event;
	struct jobs *jobs = start(&event, 2);

	jobs_submit(jobs, &slow.job);
	jobs_submit(jobs, &quick.job);
	while (!quick.dones)
		cr_assert_geq(sd_event_run(event, UINT64_MAX), 0);
	cr_assert_eq(slow.dones, 0);
	atomic_store(&slow.job.cancelled, true);
	jobs_destroy(jobs);
	cr_assert_eq(slow.dones, 1);
	sd_event_unref(event);
}

static char logged[256];

static void sink(enum log_level level, const char *line)
{
	snprintf(logged, sizeof logged, "%d %s", (int)level, line);
}

Test(log, levels)
{
	log_init(LOG_LEVEL_WARN, sink);
	log_info("no");
	cr_assert_str_eq(logged, "");
	errno = EBUSY;
	log_warn("fork %s", "a");
	cr_assert_str_eq(logged, "1 fork a");
	cr_assert_eq(errno, EBUSY);
	cr_assert_eq(log_level_parse("debug"), LOG_LEVEL_DEBUG);
	cr_assert_eq(log_level_parse("loud"), -EINVAL);
}
