/* SPDX-License-Identifier: Apache-2.0
 *
 * What the lines do that are written into the tree. What takes a while is kept and answered when it is done. */
#include <string.h>

#include "fs/files.h"
#include "fs/kept.h"
#include "fs/node.h"

#define UNDO_MAX_US 2000000

/* A request that waits for an op of vmm/'s. */
struct waiting_op {
	struct kept kept;
	struct op op;
	struct fs *fs;
	struct fork *fork;   /* a reference, or NULL */
	uid_t uid;
	size_t size;         /* of the write */
	struct file *talk;   /* whose conversation is fed, NULL none */
	struct text answer;
	struct node *dir;    /* a mkdir's, NULL: a write */
	char name[FORK_ID_MAX + 1];
	sd_event_source *bound;
};

static void op_free(struct waiting_op *w)
{
	sd_event_source_disable_unref(w->bound);
	text_finish(&w->answer);
	fork_unref(w->fork);
	free(w);
}

static int give_up(sd_event_source *source, uint64_t usec, void *data)
{
	struct waiting_op *w = data;
	fuse_req_t req = kept_answer(&w->kept);

	(void)source;
	(void)usec;
	w->bound = sd_event_source_disable_unref(w->bound);
	if (req)
		fuse_reply_err(req, EINTR);
	return 0;
}

/* The answer comes when all is undone; but a writer that was killed isn't held for longer than a moment. */
static void op_interrupted(struct kept *k)
{
	struct waiting_op *w = container_of(k, struct waiting_op, kept);

	if (w->bound)
		return;
	sd_event_add_time_relative(w->fs->event, &w->bound, CLOCK_MONOTONIC, UNDO_MAX_US, 1000, give_up, w);
	op_cancel(&w->op);
}

static void reply_made(struct waiting_op *w, fuse_req_t req)
{
	struct shot *s = fork_shot(w->fork, w->name);
	struct fuse_entry_param e = { 0 };
	struct node *n;

	if (!s || node_of_shot(w->fs, s, &n) < 0) {
		fuse_reply_err(req, s ? ENOMEM : ENOENT);
		return;
	}
	e.ino = node_number(n);
	node_stat(n, &e.attr);
	if (fuse_reply_entry(req, &e))
		node_forget(n, 1);
}

static void feed(struct waiting_op *w)
{
	struct file *f = w->talk;

	if (!f)
		return;
	f->op = NULL;
	text_append(&f->text, w->answer.data, w->answer.len);
	f->ended = true;
}

static void op_done(struct op *op, const struct failure *why, void *data)
{
	struct waiting_op *w = data;
	fuse_req_t req = kept_answer(&w->kept);
	struct file *talk = w->talk;
	struct failure told;

	(void)op;
	feed(w);
	if (!w->fork && why)
		fs_set_error(w->fs, w->uid, why);
	if (req && why && why->code == ECANCELED) {
		fuse_reply_err(req, EINTR);
	} else if (req && why) {
		told = *why;
		fuse_reply_err(req, told.code);
	} else if (req && w->dir) {
		reply_made(w, req);
	} else if (req) {
		fuse_reply_write(req, w->size);
	}
	op_free(w);
	if (talk)
		file_wake(talk);
}

static struct waiting_op *op_create(struct fs *fs, fuse_req_t req, struct fork *fork, size_t size)
{
	struct waiting_op *w = calloc(1, sizeof *w);

	if (!w) {
		fuse_reply_err(req, ENOMEM);
		return NULL;
	}
	w->fs = fs;
	w->fork = fork ? fork_ref(fork) : NULL;
	w->uid = fuse_req_ctx(req)->uid;
	w->size = size;
	w->op.done = op_done;
	w->op.data = w;
	kept_init(&w->kept, fs, req, op_interrupted);
	return w;
}

/* It could not even begin. */
static void op_refused(struct waiting_op *w, const struct failure *why)
{
	reply_failure(kept_answer(&w->kept), w->fs, w->fork, why);
	op_free(w);
}

void command_none(struct file *f, fuse_req_t req, const struct command *c, size_t size)
{
	struct failure why;

	(void)c;
	(void)size;
	fail(&why, EINVAL, "%s: takes no commands", f->node->row->name);
	refuse(req, f, &why);
}

static bool words(struct file *f, fuse_req_t req, const struct command *c, size_t min, size_t max, const char *form)
{
	struct failure why;

	if (c->words >= min && c->words <= max)
		return true;
	fail(&why, EINVAL, "%s: takes %s (white space in a path is written \\040)", f->node->row->name, form);
	refuse(req, f, &why);
	return false;
}

static void launch(struct file *f, fuse_req_t req, const struct command *c, size_t size, const char *form, uint64_t since,
		   int (*begin)(struct fork *, struct caller *, const char *, uint64_t, struct op *, struct failure *))
{
	struct fork *fork = f->node->fork;
	struct caller *caller;
	struct waiting_op *w;
	struct failure why;

	if (!words(f, req, c, 1, 1, form))
		return;
	caller = request_caller(req, f);
	if (!caller)
		return;
	w = op_create(f->fs, req, fork, size);
	if (w && begin(fork, caller, c->word[0], since, &w->op, &why) < 0)
		op_refused(w, &why);
	caller_unref(caller);
}

void command_restore(struct file *f, fuse_req_t req, const struct command *c, size_t size)
{
	launch(f, req, c, size, "a snapshot's path", f->fs->arrived, fork_restore);
}

void command_boot(struct file *f, fuse_req_t req, const struct command *c, size_t size)
{
	launch(f, req, c, size, "the path of a VM description", f->fs->arrived, fork_boot);
}

void command_restore_many(struct file *f, fuse_req_t req, const struct command *c, size_t size)
{
	struct caller *caller;
	struct waiting_op *w;
	struct failure why;
	unsigned long count;

	if (!words(f, req, c, 2, 3, "SNAPSHOT COUNT [PREFIX]"))
		return;
	if (command_number(c->word[1], 1, FORKS_AT_ONCE_MAX, &count) < 0) {
		fail(&why, EINVAL, "restore: \"%s\" is no COUNT: a number from 1 to %d", c->word[1], FORKS_AT_ONCE_MAX);
		refuse(req, f, &why);
		return;
	}
	caller = request_caller(req, f);
	if (!caller)
		return;
	w = op_create(f->fs, req, NULL, size);
	if (w && f->talk && !f->op) {
		file_say_begin(f);
		w->talk = f;
		f->op = w;
	}
	if (w && forks_restore(f->fs->forks, caller, c->word[0], (unsigned int)count, c->words > 2 ? c->word[2] : NULL, f->fs->arrived,
			       &w->answer, &w->op, &why) < 0) {
		feed(w);
		op_refused(w, &why);
	}
	caller_unref(caller);
}

void file_op_detach(struct file *f)
{
	struct waiting_op *w = f->op;

	if (w)
		w->talk = NULL;
	f->op = NULL;
}

void command_state(struct file *f, fuse_req_t req, const struct command *c, size_t size)
{
	struct fork *fork = f->node->fork;
	struct waiting_op *w;
	struct failure why;
	enum fork_state to;

	if (!words(f, req, c, 1, 1, "running, paused or stopped"))
		return;
	to = !strcmp(c->word[0], "running")   ? FORK_RUNNING
	     : !strcmp(c->word[0], "paused")  ? FORK_PAUSED
	     : !strcmp(c->word[0], "stopped") ? FORK_EXITED
					      : FORK_STATES;
	if (to == FORK_STATES) {
		fail(&why, EINVAL, "state: \"%s\" can't be written: running, paused and stopped can", c->word[0]);
		refuse(req, f, &why);
		return;
	}
	if (fork->state == to && !fork->task) {
		fuse_reply_write(req, size);
		return;
	}
	w = op_create(f->fs, req, fork, size);
	if (w && fork_turn(fork, to, &w->op, &why) < 0)
		op_refused(w, &why);
}

void make_snapshot(struct node *dir, fuse_req_t req, const char *name)
{
	struct waiting_op *w = op_create(dir->fs, req, dir->fork, 0);
	struct failure why;

	if (!w)
		return;
	w->dir = dir;
	if (strlen(name) <= FORK_ID_MAX)
		memcpy(w->name, name, strlen(name) + 1);
	if (fork_shoot(dir->fork, name, &w->op, &why) < 0)
		op_refused(w, &why);
}

void command_config(struct file *f, fuse_req_t req, const struct command *c, size_t size)
{
	struct fork *fork = f->node->fork;
	struct failure why;
	int r;

	if (c->words != 1)
		r = fail(&why, EINVAL, "config/%s: takes one value", config_keys[f->node->key].name);
	else if (fork)
		r = fork_configure(fork, f->node->key, c->word[0], &why);
	else
		r = forks_configure(f->fs->forks, f->node->key, c->word[0], &why);
	if (r < 0)
		reply_failure(req, f->fs, fork, &why);
	else
		fuse_reply_write(req, size);
}

/* A write into `wait`. */
struct waiting_state {
	struct kept kept;
	struct listener changed;
	struct fork *fork;
	enum fork_state want;
	size_t size;
	struct file *talk;
};

/* Whether a fork that is in state `now` can still come to `want` without being restored again. */
static bool reachable(enum fork_state now, enum fork_state want)
{
	switch (now) {
	case FORK_EMPTY:
		return true;
	case FORK_RESTORING:
		return want != FORK_EMPTY;
	case FORK_RUNNING:
	case FORK_PAUSED:
		return want != FORK_EMPTY && want != FORK_RESTORING;
	default:
		return false;
	}
}

/* 1 reached, 0 not yet, -EIO never. */
static int wait_outcome(const struct fork *f, enum fork_state want)
{
	if (f->removed)
		return -EIO;
	if (f->state == want)
		return 1;
	return reachable(f->state, want) ? 0 : -EIO;
}

static void wait_tell(struct file *talk, const struct fork *fork, int outcome)
{
	talk->waiting = NULL;
	if (outcome > 0 && fork->state != FORK_EXITED && fork->state != FORK_FAILED)
		text_printf(&talk->text, "%s\n", fork_state_name(fork->state));
	else
		print_end(fork, &talk->text);
	talk->ended = true;
	file_wake(talk);
}

static void wait_answer(struct waiting_state *w, int outcome)
{
	fuse_req_t req = kept_answer(&w->kept);
	struct file *talk = w->talk;
	struct fork *fork = w->fork;
	struct failure why;

	list_remove(&w->changed.link);
	if (outcome > 0) {
		fuse_reply_write(req, w->size);
	} else if (outcome == -EINTR) {
		fuse_reply_err(req, EINTR);
	} else {
		fail(&why, EIO, "fork %s: waiting for %s: it is %s and can't become that any more", fork->id, fork_state_name(w->want),
		     fork->removed ? "removed" : fork_state_name(fork->state));
		fuse_reply_err(req, EIO);
		if (!fork->error[0])
			fork_set_error(fork, &why);
	}
	free(w);
	if (talk)
		wait_tell(talk, fork, outcome);
	fork_unref(fork);
}

static void wait_interrupted(struct kept *k)
{
	wait_answer(container_of(k, struct waiting_state, kept), -EINTR);
}

static void on_change(struct listener *l)
{
	struct waiting_state *w = container_of(l, struct waiting_state, changed);
	int outcome = wait_outcome(w->fork, w->want);

	if (outcome)
		wait_answer(w, outcome);
}

void file_wait_detach(struct file *f)
{
	struct waiting_state *w = f->waiting;

	if (w)
		w->talk = NULL;
	f->waiting = NULL;
}

void command_wait(struct file *f, fuse_req_t req, const struct command *c, size_t size)
{
	struct fork *fork = f->node->fork;
	int state = c->words == 1 ? fork_state_find(c->word[0]) : -1;
	struct waiting_state *w;
	struct failure why;
	int outcome;

	if (state < 0) {
		fail(&why, EINVAL, "wait: takes one state's name: empty, restoring, running, paused, exited, failed");
		refuse(req, f, &why);
		return;
	}
	w = calloc(1, sizeof *w);
	if (!w) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	w->fork = fork_ref(fork);
	w->want = (enum fork_state)state;
	w->size = size;
	if (f->talk && !f->waiting) {
		file_say_begin(f);
		w->talk = f;
		f->waiting = w;
	}
	kept_init(&w->kept, f->fs, req, wait_interrupted);
	listener_init(&w->changed, on_change);
	list_append(&fork->listeners, &w->changed.link);
	outcome = wait_outcome(fork, w->want);
	if (outcome)
		wait_answer(w, outcome);
}
