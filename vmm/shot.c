/* SPDX-License-Identifier: Apache-2.0
 *
 * The snapshots of a fork: the entries of its snapshots/, and where their members are kept. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/log.h"
#include "vmm/capture.h"
#include "vmm/fork_private.h"
#include "vmm/pool.h"

const char *shot_state_name(enum shot_state s)
{
	static const char *const names[] = { [SHOT_WRITING] = "writing", [SHOT_COMPLETE] = "complete", [SHOT_FAILED] = "failed" };

	return names[s];
}

struct shot *fork_shot(const struct fork *f, const char *name)
{
	struct shot *s;

	list_for_each(s, &f->shots, link)
		if (!strcmp(s->name, name))
			return s;
	return NULL;
}

static struct snapshot_place place_of(const struct shot *s, const struct fork *f)
{
	struct snapshot_place p = { .fork_serial = f->serial, .uid = f->uid, .gid = f->gid, .mode = f->mode };

	snprintf(p.fork, sizeof p.fork, "%s", f->id);
	snprintf(p.name, sizeof p.name, "%s", s->name);
	return p;
}

int shot_publish(const struct shot *s, const struct fork *f, struct snapshot *snapshot)
{
	struct snapshot_place p = place_of(s, f);

	return snapshot_publish(s->serial, &p, snapshot);
}

void shots_moved(const struct fork *f)
{
	const struct shot *s;

	list_for_each(s, &f->shots, link) {
		struct snapshot_place p = place_of(s, f);

		snapshot_move(s->serial, &p);
	}
}

struct shot *shot_ref(struct shot *s)
{
	s->refs++;
	return s;
}

void shot_unref(struct shot *s)
{
	if (!s || --s->refs)
		return;
	close_fd(&s->dir);
	close_fd(&s->parent);
	snapshot_unref(s->snapshot);
	free(s->path);
	free(s);
}

/* Who has it in view still, in a directory that is gone, doesn't need what it is made of. */
static void give_back(struct shot *s)
{
	close_fd(&s->dir);
	close_fd(&s->parent);
	snapshot_unref(s->snapshot);
	s->snapshot = NULL;
}

struct drop {
	struct job job;
	struct shot *shot;
};

static void drop_run(struct job *job)
{
	const struct shot *s = container_of(job, struct drop, job)->shot;

	remove_tree(s->parent, s->file);
}

static void drop_done(struct job *job)
{
	struct drop *d = container_of(job, struct drop, job);

	give_back(d->shot);
	shot_unref(d->shot);
	free(d);
}

/* Takes over one reference: freeing gigabytes is a worker's task. */
static void remove_files(struct forks *all, struct shot *s)
{
	struct drop *d = s->parent < 0 ? NULL : calloc(1, sizeof *d);

	if (!d) {
		if (s->parent >= 0)
			remove_tree(s->parent, s->file);
		give_back(s);
		shot_unref(s);
		return;
	}
	d->shot = s;
	d->job.run = drop_run;
	d->job.done = drop_done;
	jobs_submit(all->jobs, &d->job);
}

void shot_drop(struct shot *s)
{
	struct fork *f = s->fork;

	s->fork = NULL;
	list_remove(&s->link);
	if (s->snapshot) {
		snapshot_retract(s->serial);
		pool_forget(f->all->pool, s->snapshot);
	}
	if (f->capture && f->capture->shot == s)
		capture_dropped(f->capture);
	if (!s->holds)
		remove_files(f->all, s);
}

void shot_leave(struct shot *s)
{
	s->fork = NULL;
	list_remove(&s->link);
	if (s->snapshot)
		snapshot_retract(s->serial);
	shot_unref(s);
}

struct shot *shot_hold(struct shot *s)
{
	s->holds++;
	return shot_ref(s);
}

void shot_let_go(struct shot *s, struct forks *all)
{
	if (!s)
		return;
	if (!--s->holds && !s->fork)
		remove_files(all, s);
	shot_unref(s);
}

int shot_remove(struct shot *s, struct failure *why)
{
	struct fork *f = s->fork;

	if (!s->snapshot && s->state == SHOT_WRITING)
		return fail(why, EBUSY, "snapshot %s of fork %s: is being taken", s->name, f->id);
	fork_event(f, (struct event_facts){ .what = "snapshot-removed", .snapshot = s->name });
	shot_drop(s);
	fork_changed(f);
	return 0;
}

int shot_open(const struct shot *s, const char *member)
{
	int fd = openat(s->dir, member, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}
