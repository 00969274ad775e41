/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/fork.h"

#include <ctype.h>
#include <search.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/log.h"
#include "vmm/fork_private.h"
#include "vmm/fork_record.h"

static const char *const state_names[FORK_STATES] = {
	[FORK_EMPTY] = "empty",	  [FORK_RESTORING] = "restoring", [FORK_RUNNING] = "running",
	[FORK_PAUSED] = "paused", [FORK_EXITED] = "exited",	  [FORK_FAILED] = "failed",
};

const char *fork_state_name(enum fork_state s)
{
	return state_names[s];
}

int fork_state_find(const char *name)
{
	for (int i = 0; i < FORK_STATES; i++)
		if (!strcmp(state_names[i], name))
			return i;
	return -1;
}

uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

bool fork_id_valid(const char *id)
{
	static const char *const taken[] = { "help", "clone", "restore", "events", "metrics", "doctor", "config", "error" };
	size_t n = strlen(id);

	if (n < 1 || n > FORK_ID_MAX || !isalnum((unsigned char)*id))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(taken); i++)
		if (!strcmp(taken[i], id))
			return false;
	return strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

/* The tree's keys are the ids themselves, whatever struct they stand in. */
static int by_id(const void *a, const void *b)
{
	return strcmp(a, b);
}

struct fork *fork_find(const struct forks *all, const char *id)
{
	void *node = tfind(id, &all->by_id, by_id);

	return node ? container_of(*(char(**)[FORK_ID_MAX + 1])node, struct fork, id) : NULL;
}

static int enter(struct fork *f)
{
	return tsearch(f->id, &f->all->by_id, by_id) ? 0 : -ENOMEM;
}

static void leave(struct fork *f)
{
	tdelete(f->id, &f->all->by_id, by_id);
}

void fork_event(struct fork *f, struct event_facts facts)
{
	facts.fork = f->id;
	events_add(&f->all->events, config_number(&f->all->config, CONFIG_EVENTS_MAX), f->uid, &facts);
}

int fork_changed(struct fork *f)
{
	int r = f->removed ? -ENOENT : fork_dir_write(f);

	signal_emit(&f->listeners);
	return r;
}

void fork_set_state(struct fork *f, enum fork_state state)
{
	if (f->state == state)
		return;
	f->state = state;
	if (state == FORK_RUNNING)
		f->saved = 0;
	clock_gettime(CLOCK_REALTIME, &f->changed);
	if (f->known == FORK_KNOWN)
		fork_changed(f);
	else
		signal_emit(&f->listeners);
}

void fork_set_error(struct fork *f, const struct failure *why)
{
	snprintf(f->error, sizeof f->error, "%s", why->text);
	log_info("%s", why->text);
}

struct fork *fork_ref(struct fork *f)
{
	f->refs++;
	return f;
}

static void close_records(struct fork *f)
{
	record_finish(&f->console);
	record_finish(&f->log);
	close_fd(&f->dir);
}

/* The kernel may keep it in view for as long as it likes, if a file was open when its directory went. */
void fork_give_back(struct fork *f)
{
	if (f->gone && !f->files)
		close_records(f);
}

void fork_unref(struct fork *f)
{
	if (!f || --f->refs)
		return;
	close_records(f);
	config_finish(&f->config);
	free(f);
}

bool forks_bound(const struct forks *all, uid_t uid)
{
	return uid && uid != all->owner;
}

static unsigned int forks_of(const struct forks *all, uid_t uid)
{
	unsigned int n = 0;
	struct fork *f;

	list_for_each(f, &all->list, link)
		n += f->uid == uid;
	return n;
}

int forks_room(const struct forks *all, uid_t uid, unsigned int more, struct failure *why)
{
	uint64_t max = config_number(&all->config, CONFIG_FORKS_MAX);
	uint64_t each = forks_bound(all, uid) ? config_number(&all->config, CONFIG_USER_FORKS_MAX) : 0;
	unsigned int has = each ? forks_of(all, uid) : 0;

	if (max && all->count + (uint64_t)more > max)
		return fail(why, ENOSPC, "config/forks_max allows no more than %llu forks, there are %u", (unsigned long long)max, all->count);
	if (each && has + (uint64_t)more > each)
		return fail(why, ENOSPC, "config/user_forks_max allows no more than %llu forks to a user, user %u has %u", (unsigned long long)each, uid, has);
	return 0;
}

static int may_create(const struct forks *all, const char *id, uid_t uid, struct failure *why)
{
	if (all->ending)
		return fail(why, ESHUTDOWN, "the daemon is ending");
	if (!fork_id_valid(id))
		return fail(why, EINVAL, "\"%s\" can't be a fork's name: [A-Za-z0-9][A-Za-z0-9._-]{0,63}, and none of the root's files", id);
	if (fork_find(all, id))
		return fail(why, EEXIST, "there is a fork %s already", id);
	return forks_room(all, uid, 1, why) < 0 ? fail_within(why, "fork %s", id) : 0;
}

static struct fork *alloc_fork(struct forks *all, const char *id, uint64_t serial, uid_t uid, gid_t gid)
{
	struct fork *f = calloc(1, sizeof *f);

	if (!f)
		return NULL;
	f->all = all;
	f->refs = 1;
	f->serial = serial;
	f->uid = uid;
	f->gid = gid;
	f->mode = 0700;
	f->dir = -1;
	f->restore_ms = -1;
	snprintf(f->id, sizeof f->id, "%s", id);
	clock_gettime(CLOCK_REALTIME, &f->changed);
	list_init(&f->link);
	list_init(&f->shots);
	list_init(&f->listeners);
	list_init(&f->typable);
	return f;
}

static void init_records(struct fork *f)
{
	record_init(&f->console, config_number(&f->config, CONFIG_CONSOLE_MAX));
	record_init(&f->log, config_number(&f->config, CONFIG_CONSOLE_MAX));
}

static void join(struct fork *f)
{
	list_append(&f->all->list, &f->link);
	f->all->count++;
}

int fork_revive(struct fork **ret, struct forks *all, const struct fork_record *r, uint64_t serial)
{
	struct fork *f = !r->removed && fork_find(all, r->id) ? NULL : alloc_fork(all, r->id, serial, r->uid, r->gid);
	int e = f ? config_copy(&f->config, &r->config, CONFIG_FORK_COUNT) : -EEXIST;

	if (e < 0) {
		fork_unref(f);
		return e;
	}
	f->mode = r->mode;
	f->state = r->has_vm ? FORK_EMPTY : r->state;
	f->restore_ms = r->restore_ms;
	f->started.tv_sec = r->started;
	snprintf(f->error, sizeof f->error, "%s", r->error);
	snprintf(f->exit, sizeof f->exit, "%s", r->exit);
	snprintf(f->snapshot, sizeof f->snapshot, "%s", r->snapshot);
	init_records(f);
	e = fork_dir_open(f);
	if (e == 0 && !r->removed)
		e = enter(f);
	if (e < 0) {
		fork_unref(f);
		return e;
	}
	f->removed = r->removed;
	if (f->removed)
		list_append(&all->leaving, &f->link);
	else
		join(f);
	*ret = f;
	return 0;
}

static int create(struct fork **ret, struct forks *all, const char *id, enum fork_known known, uid_t uid, gid_t gid, struct failure *why)
{
	struct fork *f;
	int r = may_create(all, id, uid, why);

	if (r < 0)
		return r;
	f = alloc_fork(all, id, all->next_serial++, uid, gid);
	if (!f || config_copy(&f->config, &all->config, CONFIG_FORK_COUNT) < 0) {
		fork_unref(f);
		return fail(why, ENOMEM, "fork %s: no memory", id);
	}
	f->known = known;
	init_records(f);
	r = fork_dir_create(f, why);
	if (r == 0 && enter(f) < 0) {
		char name[24];

		snprintf(name, sizeof name, "%llu", (unsigned long long)f->serial);
		remove_tree(all->forks_fd, name);
		r = fail(why, ENOMEM, "fork %s: no memory", id);
	}
	if (r < 0) {
		fork_unref(f);
		return r;
	}
	join(f);
	fork_event(f, (struct event_facts){ .what = "created" });
	signal_emit(&all->listeners);
	*ret = f;
	return 0;
}

static const char *free_id(struct forks *all, char *id, size_t n)
{
	do
		snprintf(id, n, "f%u", all->next_clone++);
	while (fork_find(all, id));
	return id;
}

int fork_create(struct fork **ret, struct forks *all, const char *id, uid_t uid, gid_t gid, struct failure *why)
{
	return create(ret, all, id, FORK_KNOWN, uid, gid, why);
}

int fork_clone(struct fork **ret, struct forks *all, uid_t uid, gid_t gid, struct failure *why)
{
	char id[24];

	return create(ret, all, free_id(all, id, sizeof id), FORK_KNOWN, uid, gid, why);
}

int fork_create_for_launch(struct fork **ret, struct forks *all, const char *id, uid_t uid, gid_t gid, struct failure *why)
{
	char any[24];

	return create(ret, all, id ?: free_id(all, any, sizeof any), FORK_OF_LAUNCH, uid, gid, why);
}

int fork_begin(struct fork *f, const struct task *task, void *data, struct failure *why)
{
	if (f->removed || f->all->ending)
		return fail(why, ESHUTDOWN, "fork %s: is being removed", f->id);
	if (f->task)
		return fail(why, EBUSY, "fork %s: %s is under way", f->id, f->task->name);
	f->task = task;
	f->task_data = data;
	return 0;
}

/* Of a removed fork: the VM first, then all else. */
static void wind_up(struct fork *f)
{
	if (f->vm)
		fork_kill(f);
	else
		fork_dispose(f);
}

void fork_idle(struct fork *f)
{
	f->task = NULL;
	f->task_data = NULL;
	if (f->removed)
		wind_up(f);
}

void fork_remove(struct fork *f)
{
	struct shot *s;

	if (f->removed)
		return;
	fork_ref(f);
	leave(f);
	f->removed = true;
	fork_dir_mark_removed(f);
	f->all->count--;
	list_remove(&f->link);
	list_append(&f->all->leaving, &f->link);
	while ((s = list_first(&f->shots, struct shot, link)))
		shot_drop(s);
	fork_event(f, (struct event_facts){ .what = "removed" });
	signal_emit(&f->listeners);
	signal_emit(&f->typable);
	signal_emit(&f->all->listeners);
	if (f->task)
		f->task->removed(f);
	else
		wind_up(f);
	fork_unref(f);
}

void fork_leave(struct fork *f)
{
	leave(f);
	fork_leave_vm(f);
	fork_unref(f);
}

int fork_rename(struct fork *f, const char *id, struct failure *why)
{
	char old[sizeof f->id];

	if (!fork_id_valid(id))
		return fail(why, EINVAL, "\"%s\" can't be a fork's name", id);
	if (fork_find(f->all, id))
		return fail(why, EEXIST, "there is a fork %s already", id);
	memcpy(old, f->id, sizeof old);
	leave(f);
	snprintf(f->id, sizeof f->id, "%s", id);
	if (enter(f) < 0) {
		memcpy(f->id, old, sizeof old);
		enter(f); /* the node that leave() freed is there again */
		return fail(why, ENOMEM, "fork %s: no memory", old);
	}
	shots_moved(f);
	fork_event(f, (struct event_facts){ .what = "renamed", .from = old });
	fork_changed(f);
	signal_emit(&f->all->listeners);
	return 0;
}

void fork_own(struct fork *f, uid_t uid, gid_t gid, mode_t mode)
{
	if (uid != (uid_t)-1)
		f->uid = uid;
	if (gid != (gid_t)-1)
		f->gid = gid;
	if (mode != (mode_t)-1)
		f->mode = mode & 0777;
	shots_moved(f);
	fork_changed(f);
}

int fork_configure(struct fork *f, enum config_id id, const char *value, struct failure *why)
{
	int r = config_set(&f->config, id, value, why);

	if (r < 0)
		return fail_within(why, "fork %s", f->id);
	f->console.max = f->log.max = config_number(&f->config, CONFIG_CONSOLE_MAX);
	fork_changed(f);
	return 0;
}
