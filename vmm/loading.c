/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/loading.h"

#include <stdio.h>
#include <string.h>

#include "vmm/fork_private.h"
#include "vmm/memory/copy.h"
#include "vmm/memory/place.h"
#include "vmm/memory/written.h"

static void enter(struct loading *l, enum loading_step step)
{
	uint64_t now = now_us();

	l->took[l->step] += now - l->since;
	l->since = now;
	l->step = step;
}

static void finish(struct loading *l, const struct failure *why)
{
	enter(l, l->step);
	close_fd(&l->vmstate);
	l->done(l, why);
}

static void load(struct loading *l)
{
	enter(l, LOADING_STATE);
	if (l->asks)
		l->asks(l);
	l->vm->driver->load(l->vm, l->vmstate);
}

static void place_run(struct job *job)
{
	struct loading *l = container_of(job, struct loading, job);
	const struct origin *o = l->origin;

	if (o->region == REGION_SHARED)
		memory_fill(l->own->fd, o->memory, &l->job.cancelled, NULL, &l->why);
	else
		memory_place(l->vm->memory.uffd, l->vm->process.pid, l->vm->memory.at, o->memory, &l->job.cancelled, &l->why);
}

static void place_done(struct job *job)
{
	struct loading *l = container_of(job, struct loading, job);

	l->working = false;
	if (atomic_load(&l->job.cancelled) && !l->why.code)
		fail(&l->why, ECANCELED, "it was called off");
	if (l->why.code)
		finish(l, &l->why);
	else
		load(l);
}

static void place(struct loading *l)
{
	l->working = true;
	l->job.run = place_run;
	l->job.done = place_done;
	jobs_submit(l->jobs, &l->job);
}

static void on_broke(void *data, const struct failure *why)
{
	struct loading *l = data;

	l->broke(l, why);
}

static int begin_paging(struct loading *l, struct failure *why)
{
	const struct origin *o = l->origin;
	struct paging_options options = {
		.jobs = l->jobs,
		.memory = &l->vm->memory,
		.size = l->own->size,
		.source = o->memory,
		.fill = o->fill == FILL_BACKGROUND,
		.first = o->set ? &o->set->pages : NULL,
		.held = true, /* it would be in the way of the state */
		.learn = o->learn,
	};

	int r = paging_create(&l->paging, &options, why);

	if (r == 0)
		paging_watch(l->paging, on_broke, l);
	return r;
}

/* Where pages can't be served one by one they are copied before the guest runs. */
static void supply_shared(struct loading *l)
{
	struct failure why;
	int r = l->origin->fill == FILL_EAGER ? -EOPNOTSUPP : begin_paging(l, &why);

	if (r < 0 && l->origin->fill_must)
		finish(l, &why);
	else if (r < 0)
		place(l);
	else
		load(l);
}

static void supply(struct loading *l)
{
	enter(l, LOADING_PLACE);
	if (l->origin->region == REGION_SHARED)
		supply_shared(l);
	else if (l->origin->snapshot->delta)
		place(l);
	else
		load(l);
}

/* The guest's RAM is what the VMM maps from now on. */
static void take_memory(struct loading *l)
{
	if (l->ram.kind != REGION_NONE) {
		region_finish(l->own);
		return;
	}
	l->ram = *l->own;
	*l->own = (struct region){ .fd = -1 };
}

static void loaded(struct loading *l)
{
	take_memory(l);
	finish(l, NULL);
}

static void note_run(struct job *job)
{
	struct loading *l = container_of(job, struct loading, job);
	struct vm_memory *m = &l->vm->memory;

	m->noted = written_begin(m->notes, m->at, l->own->size) == 0;
}

static void note_done(struct job *job)
{
	struct loading *l = container_of(job, struct loading, job);

	l->working = false;
	if (!atomic_load(&l->job.cancelled)) {
		loaded(l);
		return;
	}
	fail(&l->why, ECANCELED, "it was called off");
	finish(l, &l->why);
}

/* Not before: what loading writes is no change of the guest's. */
static void note(struct loading *l)
{
	enter(l, LOADING_NOTES);
	l->working = true;
	l->job.run = note_run;
	l->job.done = note_done;
	jobs_submit(l->jobs, &l->job);
}

void loading_answered(struct loading *l, const struct failure *why)
{
	if (why)
		finish(l, why);
	else if (l->step == LOADING_MAP)
		supply(l);
	else if (l->origin->region == REGION_SHARED && !l->paging && l->vm->memory.notes >= 0)
		note(l);
	else
		loaded(l);
}

static int name_tap(struct loading *l, struct failure *why)
{
	const char *name = l->origin->network, *rest = strchrnul(name, '%');
	int n = snprintf(l->tap, sizeof l->tap, "%.*s%s%s", (int)(rest - name), name, *rest ? l->id : "", *rest ? rest + 1 : "");

	if (n < (int)sizeof l->tap)
		return 0;
	return fail(why, EINVAL, "config/network: with the fork's id %s is longer than the name of an interface, 15 bytes", name);
}

static int prepare(struct loading *l, struct failure *why)
{
	const struct origin *o = l->origin;

	l->vmstate = snapshot_vmstate(o->snapshot);
	if (l->vmstate < 0)
		return fail_errno(why, -l->vmstate, "vmstate");
	if (o->network && l->id && name_tap(l, why) < 0)
		return -why->code;
	if (o->region == REGION_SHARED)
		return 0;
	return region_create_file(&l->ram, origin_file(o), l->own->size, why);
}

static void failed_run(struct job *job)
{
	(void)job;
}

void loading_begin(struct loading *l)
{
	l->ram = (struct region){ .fd = -1 };
	l->paging = NULL;
	l->vmstate = -1;
	l->why.code = 0;
	*l->tap = '\0';
	l->since = now_us();
	l->step = LOADING_MAP;
	atomic_store(&l->job.cancelled, false);
	if (prepare(l, &l->why) < 0) {
		l->working = true;
		l->job.run = failed_run;
		l->job.done = place_done;
		jobs_submit(l->jobs, &l->job);
		return;
	}
	if (l->asks)
		l->asks(l);
	l->vm->realtime = l->origin->realtime;
	origin_kept(l->origin, &l->vm->kept[0], &l->vm->kept[1]);
	l->vm->disks = l->origin->disks;
	l->vm->tap = *l->tap ? l->tap : NULL;
	l->vm->caller = l->caller;
	l->vm->driver->map(l->vm, l->ram.kind == REGION_NONE ? NULL : &l->ram, l->vmstate);
}

bool loading_abort(struct loading *l)
{
	atomic_store(&l->job.cancelled, true);
	return l->working;
}

void loading_finish(struct loading *l)
{
	region_finish(&l->ram);
	paging_unref(l->paging);
	l->paging = NULL;
	close_fd(&l->vmstate);
}
