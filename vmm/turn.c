/* SPDX-License-Identifier: Apache-2.0
 *
 * What is written to `state`: pausing, resuming and ending a VM. */
#include "vmm/fork_private.h"

struct turn {
	struct op *op;
	enum fork_state to;
	uint64_t since;
};

static void turn_cancel(struct op *op)
{
	struct turn *t = op->runner;
	struct failure why;

	/* The VMM has been told: it goes through with it, and only nobody waits for it any more. */
	fail(&why, ECANCELED, "the writer was told to end");
	t->op = NULL;
	op->cancel = NULL;
	op->done(op, &why, op->data);
}

static void answer(struct turn *t, const struct failure *why)
{
	struct op *op = t->op;

	free(t);
	if (!op)
		return;
	op->cancel = NULL;
	op->done(op, why, op->data);
}

static void turn_answered(struct fork *f, const struct failure *why)
{
	struct turn *t = f->task_data;
	enum fork_state to = t->to;
	struct failure told;

	if (t->to == FORK_EXITED)
		return;
	if (why) {
		told = *why;
		fail_within(&told, "fork %s: to make it %s", f->id, fork_state_name(to));
		if (!f->removed)
			fork_set_error(f, &told);
		fork_idle(f);
		answer(t, &told);
		return;
	}
	if (f->state != to && !f->removed) {
		fork_event(f, (struct event_facts){ .what = fork_state_name(to), .ms = (double)(now_us() - t->since) / 1000, .has_ms = true });
		fork_set_state(f, to);
	}
	fork_idle(f);
	answer(t, NULL);
}

static void turn_exited(struct fork *f, const siginfo_t *how)
{
	struct turn *t = f->task_data;
	bool meant = t->to == FORK_EXITED;
	struct failure why;

	fail(&why, EIO, "fork %s: the VMM %s", f->id, f->exit);
	f->task = NULL; /* with the VM gone there is nothing to wind up but what fork_vm_ended() does */
	f->task_data = NULL;
	fork_vm_ended(f, how);
	answer(t, meant ? NULL : &why);
}

static void turn_removed(struct fork *f)
{
	f->driver->kill(f->vm);
}

static const struct task turn_task = {
	.name = "a change of its state",
	.answered = turn_answered,
	.exited = turn_exited,
	.removed = turn_removed,
};

static void turn_begin(struct fork *f, enum fork_state to)
{
	switch (to) {
	case FORK_RUNNING:
		fork_request(f, f->driver->resume);
		break;
	case FORK_PAUSED:
		fork_request(f, f->driver->pause);
		break;
	default:
		f->stopping = true;
		fork_kill(f);
		break;
	}
}

int fork_turn(struct fork *f, enum fork_state to, struct op *op, struct failure *why)
{
	struct turn *t;
	int r;

	if (!f->vm || (f->state != FORK_RUNNING && f->state != FORK_PAUSED))
		return fail(why, EBUSY, "fork %s: is %s: there is no VM to make %s", f->id, fork_state_name(f->state), fork_state_name(to));
	t = calloc(1, sizeof *t);
	if (!t)
		return fail(why, ENOMEM, "fork %s: no memory", f->id);
	r = fork_begin(f, &turn_task, t, why);
	if (r < 0) {
		free(t);
		return r;
	}
	*t = (struct turn){ .op = op, .to = to, .since = now_us() };
	op->cancel = turn_cancel;
	op->runner = t;
	turn_begin(f, to);
	return 0;
}
