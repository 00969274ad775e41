/* SPDX-License-Identifier: Apache-2.0
 *
 * What a daemon that died left under the state directory, or one that was told to keep: forks are found by their records, with their VMs and snapshots. What nobody was told of
 * (VMMs that wait, children of a launch under way) has ended with that daemon by itself, or is ended and removed here. */
#include "vmm/adopt.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/io.h"
#include "vmm/base/log.h"
#include "vmm/keeper.h"

struct found {
	struct list link;
	struct fork *fork;
	struct taken *vm; /* NULL: there is none, or it is the fork's already */
	struct fork_record record;
};

struct search {
	struct forks *all;
	struct list found;
	uint64_t last; /* the largest serial */
};

struct template *adopted_base_find(const struct adopted_bases *bases, const struct file_id *id)
{
	for (size_t i = 0; i < bases->count; i++)
		if (bases->list[i].id.dev == id->dev && bases->list[i].id.ino == id->ino)
			return bases->list[i].template;
	return NULL;
}

int adopted_base_add(struct adopted_bases *bases, int fd, uint64_t size, struct template **ret, struct failure *why)
{
	struct adopted_base *list = realloc(bases->list, (bases->count + 1) * sizeof *list);
	struct file_id id;
	int r = file_id_get(&id, fd);

	if (list)
		bases->list = list;
	if (r < 0 || !list)
		return fail_errno(why, list ? -r : ENOMEM, "the memory under a snapshot");
	r = template_wrap(ret, fd, size, why);
	if (r == 0)
		list[bases->count++] = (struct adopted_base){ id, *ret, false };
	return r;
}

static void note_serial(struct search *s, uint64_t serial)
{
	if (serial > s->last)
		s->last = serial;
}

static int read_record(struct search *s, const char *dir, const char *name, struct fork_record *ret, struct failure *why)
{
	AUTO_FREE char *path = NULL, *data = NULL;
	AUTO_CLOSE int fd = -1;
	size_t n;
	int r;

	*ret = (struct fork_record){ 0 };
	if (asprintf(&path, "%s/%s", dir, name) < 0)
		return fail(why, ENOMEM, "no memory");
	fd = openat(s->all->forks_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return fail_errno(why, errno, "%s", path);
	r = read_file(fd, FORK_RECORD_MAX, &data, &n);
	return r < 0 ? fail_errno(why, -r, "%s", path) : fork_record_parse(ret, data, n, why);
}

/* Only the process that was written down: another one may have its number by now. */
static void end_process(const struct fork_record *r)
{
	struct process p;

	if (!r->vm.pid || process_adopt(&p, r->vm.pid, r->vm.start_time) < 0)
		return;
	process_kill(&p);
	process_finish(&p);
}

static void remove_shots(const struct fork_record *r)
{
	for (size_t i = 0; i < r->shot_count; i++)
		remove_tree(AT_FDCWD, r->shots[i].path);
}

static void sweep_fork(struct search *s, const char *dir, struct fork_record *r)
{
	end_process(r);
	remove_shots(r);
	remove_tree(s->all->forks_fd, dir);
	fork_record_finish(r);
}

/* It may be well: it can't be looked at just now. */
static bool is_want(int r)
{
	return r == -ENOMEM || r == -EMFILE || r == -ENFILE;
}

/* It is left alone, for a daemon that has what this one wants. */
static void leave_alone(const char *dir, const char *why)
{
	log_error("the fork of the former daemon in forks/%s is left alone: %s", dir, why);
}

/* Whoever writes the log there is the VMM. */
static void end_writer(struct search *s, const char *dir)
{
	AUTO_FREE char *path = NULL;
	AUTO_CLOSE int fd = -1;
	struct file_id id;
	struct process p;

	if (asprintf(&path, "%s/log.txt", dir) < 0)
		return;
	fd = openat(s->all->forks_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || file_id_get(&id, fd) < 0 || open_files_find_writer(&p, &id) < 0)
		return;
	process_kill(&p);
	process_finish(&p);
}

static void unreadable(struct search *s, const char *dir, struct fork_record *r, int error, const struct failure *why)
{
	if (is_want(error)) {
		leave_alone(dir, why->text);
		fork_record_finish(r);
		return;
	}
	log_error("the fork of the former daemon in forks/%s is ended, for its record can't be read: %s", dir, why->text);
	end_writer(s, dir);
	sweep_fork(s, dir, r);
}

static void revive(struct search *s, const char *dir, struct found *found)
{
	int r = fork_revive(&found->fork, s->all, &found->record, strtoull(dir, NULL, 10));

	if (r == 0) {
		if (found->record.launch)
			fork_dir_settle(found->fork);
		list_append(&s->found, &found->link);
		return;
	}
	if (is_want(r)) {
		leave_alone(dir, strerror(-r));
		fork_record_finish(&found->record);
	} else {
		log_error("fork %s of the former daemon can't be taken over, and is ended: %s", found->record.id, strerror(-r));
		sweep_fork(s, dir, &found->record);
	}
	free(found);
}

/* Returns 0: it is a fork's; 1: it is one's that was removed; -ENOENT: there is none that counts, for it is a child's of a launch that nobody was told of; another negative errno. */
static int find_record(struct search *s, const char *dir, struct fork_record *ret, struct failure *why)
{
	int r = read_record(s, dir, RECORD_OF_REMOVED, ret, why);

	if (r == 0)
		return 1;
	if (r == -ENOENT)
		r = read_record(s, dir, RECORD, ret, why);
	if (r != -ENOENT)
		return r;
	r = read_record(s, dir, RECORD_OF_LAUNCH, ret, why);
	return r == 0 && !fork_dir_committed(s->all, ret->launch) ? -ENOENT : r;
}

/* Children of a snapshot of its may wait for memory that only its VM has. */
static bool is_awaited(const struct fork_record *r)
{
	bool awaited = false;

	for (size_t i = 0; r->has_vm && i < r->shot_count; i++)
		awaited = awaited || (r->shots[i].described && !r->shots[i].complete && !access(r->shots[i].path, F_OK));
	return awaited;
}

/* Its maker may wait for that. */
static void tell_gone(struct forks *all, const struct fork_record *r)
{
	events_add(&all->events, config_number(&all->config, CONFIG_EVENTS_MAX), r->uid, &(struct event_facts){ .fork = r->id, .what = "gone" });
}

static void find_fork(struct search *s, const char *dir)
{
	struct found *found = calloc(1, sizeof *found);
	struct failure why;
	int r;

	note_serial(s, strtoull(dir, NULL, 10));
	if (!found) {
		leave_alone(dir, "no memory");
		return;
	}
	r = find_record(s, dir, &found->record, &why);
	found->record.removed = r == 1;
	if (r == 0 || (r == 1 && is_awaited(&found->record))) {
		revive(s, dir, found);
		return;
	}
	if (r == 1)
		tell_gone(s->all, &found->record);
	if (r < 0 && r != -ENOENT)
		unreadable(s, dir, &found->record, r, &why);
	else
		sweep_fork(s, dir, &found->record);
	free(found);
}

static void each_fork(int dir, const char *name, void *data)
{
	(void)dir;
	if (strncmp(name, LAUNCH_PREFIX, strlen(LAUNCH_PREFIX)))
		find_fork(data, name);
}

/* The records of those that they were for count by themselves by now. */
static void each_launch(int dir, const char *name, void *data)
{
	(void)data;
	if (!strncmp(name, LAUNCH_PREFIX, strlen(LAUNCH_PREFIX)))
		unlinkat(dir, name, 0);
}

static void each_waiting(int dir, const char *name, void *data)
{
	(void)data;
	remove_tree(dir, name); /* the VMM ended with that daemon */
}

static bool is_shot(const struct forks *all, const char *file)
{
	const struct fork *f;
	const struct shot *s;

	list_for_each(f, &all->list, link)
		list_for_each(s, &f->shots, link)
			if (!strcmp(s->file, file))
				return true;
	return false;
}

static void each_memory(int dir, const char *name, void *data)
{
	if (!is_shot(((struct search *)data)->all, name))
		remove_tree(dir, name);
}

/* That of a control group stands behind its name's hyphen. */
static void note_serials(struct search *s)
{
	struct found *f;

	list_for_each(f, &s->found, link) {
		const char *hyphen = strrchr(f->record.vm.group, '-');

		for (size_t i = 0; i < f->record.shot_count; i++)
			note_serial(s, f->record.shots[i].serial);
		note_serial(s, hyphen ? strtoull(hyphen + 1, NULL, 10) : 0);
	}
	if (s->last >= s->all->next_serial)
		s->all->next_serial = s->last + 1;
}

/* Those whose pages come from a capture that isn't finished wait for whose memory that is. Returns whether there were any to take over; `all`: wait no more. */
static bool take_vms(struct search *s, struct adopted_bases *bases, bool all)
{
	struct found *f;
	bool any = false;

	list_for_each(f, &s->found, link) {
		if (!f->vm || !(all || adopt_vm_ready(f->vm, &f->record.vm)))
			continue;
		adopt_vm(f->fork, steal_ptr(&f->vm), &f->record, bases);
		any = true;
	}
	return any;
}

/* Memory that a snapshot needs though no VM has it any more. */
static void on_kept(struct keeper *k, int fd, void *data)
{
	struct adopted_bases *bases = data;
	struct template *t;
	struct failure why;
	struct stat st;

	if (fstat(fd, &st) || adopted_base_add(bases, fd, (uint64_t)st.st_size, &t, &why) < 0) {
		keeper_end(k);
	} else {
		template_kept(t, k);
		bases->list[bases->count - 1].kept = true;
	}
	close_fd(&fd);
}

/* It has given what was wanted of it. */
static void end_removed(struct fork *f)
{
	if (f->task)
		f->task->removed(f);
	else
		fork_dispose(f);
}

static void take_over(struct search *s)
{
	struct adopted_bases bases = { 0 };
	struct found *f;

	keepers_adopt(on_kept, &bases);
	list_for_each(f, &s->found, link)
		if (f->record.has_vm)
			f->vm = adopt_vm_take(f->fork, &f->record.vm);
	while (take_vms(s, &bases, false))
		;
	take_vms(s, &bases, true);
	list_for_each(f, &s->found, link) {
		adopt_shots(f->fork, &f->record, &bases);
		if (f->record.removed)
			end_removed(f->fork);
	}
	while ((f = list_first(&s->found, struct found, link))) {
		list_remove(&f->link);
		fork_record_finish(&f->record);
		free(f);
	}
	for (size_t i = 0; i < bases.count; i++) {
		if (bases.list[i].kept)
			template_let_go(bases.list[i].template);
		template_unref(bases.list[i].template);
	}
	free(bases.list);
}

void forks_adopt(struct forks *all)
{
	struct search s = { .all = all };

	list_init(&s.found);
	each_name(openat(all->state_fd, "forks", O_RDONLY | O_DIRECTORY | O_CLOEXEC), each_fork, &s);
	note_serials(&s);
	take_over(&s);
	each_name(openat(all->state_fd, "forks", O_RDONLY | O_DIRECTORY | O_CLOEXEC), each_launch, &s);
	each_name(openat(all->state_fd, "pool", O_RDONLY | O_DIRECTORY | O_CLOEXEC), each_waiting, &s);
	each_name(open(all->memory_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), each_memory, &s);
}

bool forks_adopted(const struct forks *all)
{
	return !all->adopting;
}
