/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/learning.h"

#include <string.h>

#include "vmm/base/io.h"
#include "vmm/base/log.h"
#include "vmm/fork_private.h"
#include "vmm/working_set.h"

struct learning {
	struct job job;
	struct origin *origin;
	struct paging *paging;
};

/* What is known already stays known. One that can't be read is replaced. */
static struct working_set *read_old(const struct origin *o)
{
	AUTO_CLOSE int path = caller_open_at(o->writer, o->dir, WORKING_SET_FILE, NULL), fd = -1;
	const struct recipe *recipe = &o->snapshot->recipe;
	AUTO_FREE char *text = NULL;
	struct working_set *old;
	size_t n;

	if (path >= 0)
		fd = caller_read(o->writer, path, WORKING_SET_FILE, NULL);
	if (fd < 0 || read_file(fd, WORKING_SET_MAX, &text, &n) < 0)
		return NULL;
	return working_set_parse(&old, text, n, recipe->memory.identity, recipe->ram_size, NULL) == 0 ? old : NULL;
}

/* The snapshot's directory may be somebody's where its user can't write, or be gone: nothing is lost but time. */
static void publish_run(struct job *job)
{
	struct learning *l = container_of(job, struct learning, job);
	const struct origin *o = l->origin;
	const struct recipe *recipe = &o->snapshot->recipe;
	AUTO_EXTENTS struct extents pages = { 0 };
	AUTO_TEXT struct text text = { 0 };
	struct working_set *old = read_old(o);
	int r = working_set_merge(&pages, paging_learned(l->paging), old);

	working_set_unref(old);
	if (r == 0 && pages.count) {
		working_set_print(&pages, recipe->memory.identity, recipe->ram_size, &text);
		r = text.failed ? -ENOMEM : caller_replace(o->writer, o->dir, WORKING_SET_FILE, text.data, text.len);
	}
	if (r < 0)
		log_debug("a working set can't be kept: %s", strerror(-r));
}

static void publish_done(struct job *job)
{
	struct learning *l = container_of(job, struct learning, job);

	origin_unref(l->origin);
	paging_unref(l->paging);
	free(l);
}

static void publish(struct fork *f)
{
	struct learning *l = calloc(1, sizeof *l);

	if (!l)
		return;
	l->origin = origin_ref(f->origin);
	l->paging = paging_ref(f->paging);
	l->job.run = publish_run;
	l->job.done = publish_done;
	jobs_submit(f->all->jobs, &l->job);
}

static bool learns(const struct fork *f)
{
	return f->paging && f->origin && f->origin->learn && f->origin->dir >= 0 && paging_learned(f->paging);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct fork *f = data;

	(void)source;
	(void)usec;
	f->learning = sd_event_source_disable_unref(f->learning);
	f->learned = true;
	if (learns(f))
		publish(f);
	return 0;
}

void learning_begin(struct fork *f)
{
	f->learned = false;
	if (learns(f))
		sd_event_add_time_relative(f->all->event, &f->learning, CLOCK_MONOTONIC, LEARNING_USEC, 1000000, on_timer, f);
}

void learning_end(struct fork *f)
{
	bool each = !strcmp(config_get(&f->config, CONFIG_WORKING_SET), "record");

	f->learning = sd_event_source_disable_unref(f->learning);
	if (learns(f) && f->started.tv_sec && (each || !f->learned))
		publish(f);
	f->learned = true;
}
