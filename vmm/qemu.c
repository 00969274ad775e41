/* SPDX-License-Identifier: Apache-2.0
 *
 * QEMU as a VMM. What one request takes is a chain of QMP commands, each sent by the answer to the one before; all on the loop. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "vmm/base/io.h"
#include "vmm/base/log.h"
#include "vmm/qemu_args.h"
#include "vmm/qemu_private.h"
#include "vmm/qemu_probe.h"

#define RETRY_USEC 1000
#define GRACE_USEC 2000000 /* between the end of the control socket and that of the process */
#define STATE_MAX (64ll << 20)

void qemu_end_feed(struct qemu *q)
{
	q->feed = sd_event_source_disable_unref(q->feed);
	close_fd(&q->incoming);
}

void qemu_answered(struct qemu *q, const struct failure *why)
{
	enum request was = q->request;

	q->request = NOTHING;
	if (was == LOAD)
		qemu_end_feed(q);
	if (was == LOAD || was == SAVE)
		q->state = -1;
	if (was != NOTHING)
		q->vm.watcher->answered(&q->vm, why, q->vm.data);
}

int qemu_on_deferred(sd_event_source *source, void *data)
{
	struct qemu *q = data;
	struct failure why = q->why;

	(void)source;
	q->why.code = 0;
	qemu_answered(q, why.code ? &why : NULL);
	return 0;
}

/* With q->why, or success where its code is 0. */
static void answer_later(struct qemu *q)
{
	sd_event_source_set_enabled(q->deferred, SD_EVENT_ONESHOT);
}

/* After the control socket's end the process's end is awaited, which answers. */
void qemu_say(struct qemu *q, const char *command, const char *arguments, int fd, qmp_answer to)
{
	int r = qmp_send(q->qmp, command, arguments, fd, to, q);

	if (r == 0 || r == -ENOTCONN)
		return;
	fail_errno(&q->why, -r, "send %s to QEMU", command);
	answer_later(q);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data);

static int after(struct qemu *q, uint64_t usec)
{
	q->timer = sd_event_source_disable_unref(q->timer);
	return sd_event_add_time_relative(q->spec.event, &q->timer, CLOCK_MONOTONIC, usec, 1, on_timer, q);
}

/* --- the state ------------------------------------------------------------------------------------------------------------------ */

static int copy_file(int to, int from)
{
	struct stat st;

	if (fstat(from, &st) < 0)
		return -errno;
	return st.st_size > STATE_MAX ? -EFBIG : copy_range(to, from, 0, st.st_size, NULL);
}

/* QEMU refuses a second migration of a guest that has not run since the first; its state is the first's. Only what was typed meanwhile is
 * not in it. */
static void hold_state(struct qemu *q, int state)
{
	close_fd(&q->held);
	q->held = fcntl(state, F_DUPFD_CLOEXEC, 3);
	if (q->held < 0)
		log_warn("%s: the state can't be kept: another snapshot needs the guest to run first", q->spec.id);
}

static void finish_migration(struct qemu *q)
{
	if (!q->accepted || !q->migrated)
		return;
	q->accepted = q->migrated = false;
	if (q->request == SAVE) {
		q->retries = QEMU_RETRIES;
		hold_state(q, q->state);
	}
	qemu_answered(q, NULL);
}

static void on_migrate(const struct failure *why, const cJSON *result, void *data)
{
	struct qemu *q = data;

	(void)result;
	if (why) {
		qemu_answered(q, q->refused.code ? &q->refused : why);
		return;
	}
	q->accepted = true;
	finish_migration(q);
}

static void on_getfd(const struct failure *why, const cJSON *result, void *data)
{
	struct qemu *q = data;

	(void)result;
	if (why)
		q->refused = *why;
}

/* Whoever migrates to it before that was answered fails as well. */
static void give_state(struct qemu *q, int fd)
{
	q->state = fd;
	q->refused.code = 0;
	qemu_say(q, "getfd", "{\"fdname\":\"s\"}", fd, on_getfd);
}

static void on_why_failed(const struct failure *why, const cJSON *result, void *data)
{
	const char *desc = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(result, "error-desc"));
	struct qemu *q = data;
	struct failure f;

	if (why)
		f = *why;
	else
		fail(&f, EIO, "QEMU could not save the state%s%s", desc ? ": " : "", desc ?: "");
	qemu_answered(q, &f);
}

/* QEMU 7.2 ends at once after a state that it can't load; its log has the reason already. */
static void migration_failed(struct qemu *q)
{
	struct failure why;
	char line[256];

	if (q->request == SAVE) {
		qemu_say(q, "query-migrate", NULL, -1, on_why_failed);
		return;
	}
	last_words_read(&q->words, line, sizeof line);
	fail(&why, EIO, "QEMU could not load the state%s%s", *line ? ": " : "", line);
	qemu_answered(q, &why);
}

static void on_migration(struct qemu *q, const cJSON *data)
{
	const char *status = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(data, "status")) ?: "";

	if (q->request != LOAD && q->request != SAVE)
		return;
	if (!strcmp(status, "failed")) {
		migration_failed(q);
	} else if (!strcmp(status, "completed")) {
		q->migrated = true;
		finish_migration(q);
	}
}

/* --- what QEMU tells -------------------------------------------------------------------------------------------------------------- */

/* The event comes before the answer to the command, by two turns of QEMU's loop. */
static void turn(struct qemu *q, bool running, enum request by)
{
	q->running = running;
	if (running)
		close_fd(&q->held);
	if (q->request != by) {
		q->vm.watcher->turned(&q->vm, running, q->vm.data);
		return;
	}
	q->due++;
	q->retries = 0;
	qemu_answered(q, NULL);
}

/* Whether the answer to a command that is here was told by its event before. */
static bool told(struct qemu *q)
{
	bool was = q->due;

	q->due -= was;
	return was;
}

static void on_event(const char *name, const cJSON *data, void *user)
{
	struct qemu *q = user;

	if (!strcmp(name, "STOP"))
		turn(q, false, PAUSE);
	else if (!strcmp(name, "RESUME"))
		turn(q, true, RESUME);
	else if (!strcmp(name, "MIGRATION"))
		on_migration(q, data);
	else
		log_debug("%s: QEMU tells %s", q->spec.id, name);
}

static void on_closed(const struct failure *why, void *user)
{
	struct qemu *q = user;

	if (why->code == ECONNRESET && after(q, GRACE_USEC) >= 0)
		return;
	log_warn("%s: QEMU is killed: %s", q->spec.id, why->text);
	q->why = *why;
	q->why.code = EIO;
	process_kill(&q->vm.process);
}

const struct qmp_handler qemu_handler = { on_event, on_closed };

/* --- requests --------------------------------------------------------------------------------------------------------------------- */

static void begin(struct qemu *q, enum request request)
{
	q->request = request;
	if (qmp_connected(q->qmp)) /* else it says why the process will end */
		q->why.code = 0;
}

void qemu_on_mapped(int error, void *data)
{
	struct qemu *q = data;
	struct failure why;

	if (q->request != MAP || error == -EPIPE)
		return; /* the end of the process answers */
	if (error)
		fail_errno(&why, -error, "QEMU can't map the memory");
	qemu_answered(q, error ? &why : NULL);
}

static void map(struct vm *vm, const struct region *ram, int vmstate)
{
	struct qemu *q = of(vm);
	int r = 0;

	(void)vmstate;
	begin(q, MAP);
	if (ram)
		r = handover_give(&q->handover, ram->fd);
	if (r == -EPIPE)
		fail(&q->why, EIO, "QEMU has closed the socket of its memory");
	else if (r < 0)
		fail_errno(&q->why, -r, "QEMU can't be handed its memory");
	if (r < 0 || !ram)
		answer_later(q);
}

static int on_feed(sd_event_source *source, int fd, uint32_t revents, void *data);

/* QEMU has waited for it since it was started. When it closes its end it says why, or ends. */
static void feed(struct qemu *q)
{
	ssize_t n;
	int r = 0;

	do
		n = sendfile(q->incoming, q->state, &q->fed, STATE_MAX);
	while (n > 0);
	if (n < 0 && errno == EAGAIN && !q->feed)
		r = sd_event_add_io(q->spec.event, &q->feed, q->incoming, EPOLLOUT, on_feed, q);
	else if (n < 0 && errno != EAGAIN && errno != EPIPE)
		r = -errno;
	if (n == 0 || r < 0 || (n < 0 && errno == EPIPE))
		qemu_end_feed(q);
	if (r >= 0)
		return;
	fail_errno(&q->why, -r, "the device state can't be handed to QEMU");
	answer_later(q);
}

static int on_feed(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	(void)source;
	(void)fd;
	(void)revents;
	feed(data);
	return 0;
}

static void load(struct vm *vm, int vmstate)
{
	struct qemu *q = of(vm);

	begin(q, LOAD);
	q->state = vmstate;
	q->fed = 0;
	q->accepted = true;
	q->migrated = false;
	feed(q);
}

static void on_cont(const struct failure *why, const cJSON *result, void *data)
{
	struct qemu *q = data;

	(void)result;
	if (told(q))
		return;
	if (why && q->retries && after(q, RETRY_USEC) >= 0) {
		q->retries--;
		return;
	}
	q->retries = 0;
	qemu_answered(q, why);
}

/* Either the wait for the process's end is over, or cont is tried again. */
static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct qemu *q = data;

	(void)source;
	(void)usec;
	if (q->request == RESUME && qmp_connected(q->qmp))
		qemu_say(q, "cont", NULL, -1, on_cont);
	else
		process_kill(&q->vm.process);
	return 0;
}

static void resume(struct vm *vm)
{
	struct qemu *q = of(vm);

	begin(q, RESUME);
	qemu_say(q, "cont", NULL, -1, on_cont);
}

static void keep(struct vm *vm)
{
	struct qemu *q = of(vm);
	int r = handover_live(&q->handover, vm->kept, VM_KEPT);

	if (r < 0 && r != -EPIPE) /* else it is ending */
		log_warn("%s: QEMU can't be told to go on without this daemon: %s", q->spec.id, strerror(-r));
}

static void on_stop(const struct failure *why, const cJSON *result, void *data)
{
	(void)result;
	if (!told(data))
		qemu_answered(data, why);
}

static void pause_(struct vm *vm)
{
	begin(of(vm), PAUSE);
	qemu_say(of(vm), "stop", NULL, -1, on_stop);
}

static void expect_save(struct vm *vm, int fd)
{
	struct qemu *q = of(vm);

	if (q->held < 0)
		give_state(q, fd);
}

static void save(struct vm *vm, int fd)
{
	struct qemu *q = of(vm);
	int r;

	begin(q, SAVE);
	if (q->held < 0) {
		if (q->state != fd)
			give_state(q, fd);
		q->accepted = q->migrated = false;
		qemu_say(q, "migrate", "{\"uri\":\"fd:s\"}", -1, on_migrate);
		return;
	}
	r = copy_file(fd, q->held);
	if (r < 0)
		fail_errno(&q->why, -r, "copy the state");
	answer_later(q);
}

static void saved(struct vm *vm, int fd)
{
	hold_state(of(vm), fd);
}

static ssize_t type(struct vm *vm, const void *data, size_t n)
{
	return typist_type(&of(vm)->typist, data, n);
}

static void kill_(struct vm *vm)
{
	of(vm)->killed = true;
	process_kill(&vm->process);
}

const struct driver driver_qemu = {
	.name = "qemu",
	.automatic = true,
	.probe = qemu_probe,
	.check = qemu_check,
	.describe = qemu_describe,
	.start = qemu_start,
	.map = map,
	.load = load,
	.resume = resume,
	.pause = pause_,
	.expect_save = expect_save,
	.save = save,
	.saved = saved,
	.keep = keep,
	.adopt = qemu_adopt,
	.type = type,
	.kill = kill_,
	.destroy = qemu_destroy,
};
