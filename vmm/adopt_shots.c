/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking over the snapshots of a fork: they are where they were, and can be restored again. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/adopt.h"
#include "vmm/base/log.h"
#include "vmm/memory/overlay.h"
#include "vmm/memory/rescue.h"
#include "vmm/snapshot.h"

/* What was opened as anybody's snapshot becomes one of ours: its memory is known to be whole, or lies over another one. */
static int make_ours(struct snapshot *s, const struct shot *shot, const struct shot_record *r, const struct adopted_bases *bases, struct failure *why)
{
	struct template *base = r->delta ? adopted_base_find(bases, &r->base) : NULL;

	memset(&s->key, 0, sizeof s->key);
	s->key.serial = r->serial;
	s->dir = fcntl(shot->dir, F_DUPFD_CLOEXEC, 3);
	if (s->dir < 0)
		return fail_errno(why, errno, "its directory");
	if (!r->delta)
		return template_wrap(&s->template, s->file, s->recipe.ram_size, why);
	if (!base)
		return fail(why, EIO, "it is a few pages over a memory that ended with the VMs which had it");
	s->delta = true;
	s->template = template_ref(base);
	s->keeps = template_keep(base, why) == 0;
	if (!s->keeps) /* it is there now */
		log_warn("%s", why->text);
	s->pages = steal_fd(&s->file);
	return overlay_create(&s->memory, s->pages, template_source(base), why);
}

static int open_snapshot(struct snapshot **ret, struct forks *all, const struct shot *shot, const struct shot_record *r, const struct adopted_bases *bases, struct failure *why)
{
	struct snapshot *s;
	int e;

	if (shot->dir < 0)
		return fail_errno(why, ENOENT, "%s", r->path);
	e = snapshot_open(&s, all->self, shot->dir, r->path, why);
	if (e < 0)
		return e;
	e = make_ours(s, shot, r, bases, why);
	if (e < 0)
		snapshot_unref(s);
	else
		*ret = s;
	return e;
}

static struct shot *make_shot(struct fork *f, const struct shot_record *r)
{
	struct shot *s = calloc(1, sizeof *s);
	const char *file = strrchr(r->path, '/') + 1;
	AUTO_FREE char *place = strndup(r->path, (size_t)(file - r->path));

	if (!s || !place) {
		free(s);
		return NULL;
	}
	s->refs = 1;
	s->serial = r->serial;
	s->fork = f;
	s->made.tv_sec = r->made;
	snprintf(s->name, sizeof s->name, "%s", r->name);
	snprintf(s->file, sizeof s->file, "%s", file);
	s->path = strdup(r->path);
	s->parent = open(place, O_PATH | O_DIRECTORY | O_CLOEXEC);
	s->dir = s->parent < 0 ? -1 : openat(s->parent, s->file, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return s;
}

static int rescue(const struct shot_record *r, const struct region_view *view, pid_t pid, uint64_t base, struct failure *why)
{
	AUTO_CLOSE int dir = open(r->path, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	AUTO_CLOSE int file = dir < 0 ? -1 : openat(dir, "memory.bin", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	int e;

	if (file < 0)
		return fail_errno(why, errno, "%s/memory.bin", r->path);
	e = capture_rescue(file, view, pid, base, r->delta, why);
	if (e == 0 && fchmod(file, 0400))
		e = fail_errno(why, errno, "%s/memory.bin", r->path);
	return e;
}

void adopt_capture(const struct fork *f, struct shot_record *r, const struct region_view *view, pid_t pid, uint64_t base)
{
	struct failure why;

	r->complete = rescue(r, view, pid, base, &why) == 0;
	if (!r->complete)
		log_warn("snapshot %s of fork %s can't be finished: %s", r->name, f->id, why.text);
}

static void dropped(struct fork *f, const struct shot_record *r, struct failure *why)
{
	fail_within(why, "snapshot %s of fork %s is dropped", r->name, f->id);
	fork_set_error(f, why);
	fork_event(f, (struct event_facts){ .what = "snapshot-failed", .snapshot = r->name, .code = why->code, .error = why->text });
	remove_tree(AT_FDCWD, r->path);
}

static int adopt_shot(struct fork *f, const struct shot_record *r, const struct adopted_bases *bases, struct failure *why)
{
	struct shot *s;
	int e;

	if (!r->complete)
		return fail(why, EIO, "the daemon died while it was being taken");
	s = make_shot(f, r);
	if (!s)
		return fail(why, ENOMEM, "no memory");
	e = open_snapshot(&s->snapshot, f->all, s, r, bases, why);
	if (e == 0 && (e = shot_publish(s, f, s->snapshot)) < 0)
		fail(why, ENOMEM, "no memory");
	if (e < 0) {
		shot_unref(s);
		return e;
	}
	s->recipe = s->snapshot->recipe;
	s->state = SHOT_COMPLETE;
	list_append(&f->shots, &s->link);
	return 0;
}

/* The VMM's state is that of one of them. */
static void tell_saved(struct fork *f, uint64_t serial)
{
	const struct shot *s;

	list_for_each(s, &f->shots, link)
		if (s->serial == serial && f->vm && f->driver->saved) {
			f->saved = serial;
			f->driver->saved(f->vm, s->snapshot->vmstate);
		}
}

void adopt_shots(struct fork *f, const struct fork_record *r, const struct adopted_bases *bases)
{
	struct failure why;

	for (size_t i = 0; i < r->shot_count; i++)
		if (r->shots[i].dropped || r->removed)
			remove_tree(AT_FDCWD, r->shots[i].path); /* whoever waits for its memory has it open */
		else if (adopt_shot(f, &r->shots[i], bases, &why) < 0)
			dropped(f, &r->shots[i], &why);
	if (r->has_vm && r->vm.saved)
		tell_saved(f, r->vm.saved);
	if (r->shot_count && !r->removed)
		fork_dir_write(f);
}
