/* SPDX-License-Identifier: Apache-2.0
 *
 * QEMU as a VMM. What one request takes is a chain of QMP commands, each sent by the answer to the one before; all on the loop. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "vmm/base/io.h"
#include "vmm/base/log.h"
#include "vmm/driver.h"
#include "vmm/handover.h"
#include "vmm/qemu_args.h"
#include "vmm/qemu_launch.h"
#include "vmm/qemu_probe.h"
#include "vmm/qmp.h"
#include "vmm/sockets.h"
#include "vmm/typist.h"

#define CAPABILITIES                                                                                                                     \
	"{\"capabilities\":[{\"capability\":\"x-ignore-shared\",\"state\":true},{\"capability\":\"events\",\"state\":true}]}"
#define RETRY_USEC 1000
#define RETRIES 1000
#define GRACE_USEC 2000000 /* between the end of the control socket and that of the process */
#define STATE_MAX (64ll << 20)

enum request { NOTHING, START, MAP, LOAD, RESUME, PAUSE, SAVE };

struct qemu {
	struct vm vm;
	struct vm_spec spec; /* what it points to is borrowed until the start is answered */
	struct job job;
	struct qemu_launched launched; /* the job's result, with `why` */
	bool killed;                   /* asked for while the job ran */
	bool greeted, capable;         /* of a start: the memory is known, the control socket is ready (and a state awaited) */

	enum request request;
	bool running;
	struct failure why;        /* of the request under way, or of the end that is due */
	sd_event_source *deferred; /* answers from outside of the call */
	sd_event_source *timer;
	struct qmp *qmp;
	struct typist typist;
	struct handover handover;
	struct last_words words;

	struct failure refused;  /* of a migration: why its descriptor was */
	bool accepted, migrated; /* likewise: the command was, the event came */
	unsigned int due;        /* answers to cont and stop, whose event has told already */
	int state;               /* load's; save's, which QEMU has been given; -1 */
	int incoming;            /* the pipe that QEMU reads a state from, until it has all of it; -1 */
	off_t fed;               /* bytes of the state that went into it */
	sd_event_source *feed;
	int held;                /* the state that was saved last, as long as the guest has not run since: nobody changes it any more; -1 */
	unsigned int retries;    /* left for cont: a finished save takes a moment to let go */
};

static struct qemu *of(struct vm *vm)
{
	return container_of(vm, struct qemu, vm);
}

static void end_feed(struct qemu *q)
{
	q->feed = sd_event_source_disable_unref(q->feed);
	close_fd(&q->incoming);
}

static void answered(struct qemu *q, const struct failure *why)
{
	enum request was = q->request;

	q->request = NOTHING;
	if (was == LOAD)
		end_feed(q);
	if (was == LOAD || was == SAVE)
		q->state = -1;
	if (was != NOTHING)
		q->vm.watcher->answered(&q->vm, why, q->vm.data);
}

static int on_deferred(sd_event_source *source, void *data)
{
	struct qemu *q = data;
	struct failure why = q->why;

	(void)source;
	q->why.code = 0;
	answered(q, why.code ? &why : NULL);
	return 0;
}

/* With q->why, or success where its code is 0. */
static void answer_later(struct qemu *q)
{
	sd_event_source_set_enabled(q->deferred, SD_EVENT_ONESHOT);
}

/* After the control socket's end the process's end is awaited, which answers. */
static void say(struct qemu *q, const char *command, const char *arguments, int fd, qmp_answer to)
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
		q->retries = RETRIES;
		hold_state(q, q->state);
	}
	answered(q, NULL);
}

static void on_migrate(const struct failure *why, const cJSON *result, void *data)
{
	struct qemu *q = data;

	(void)result;
	if (why) {
		answered(q, q->refused.code ? &q->refused : why);
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
	say(q, "getfd", "{\"fdname\":\"s\"}", fd, on_getfd);
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
	answered(q, &f);
}

/* QEMU 7.2 ends at once after a state that it can't load; its log has the reason already. */
static void migration_failed(struct qemu *q)
{
	struct failure why;
	char line[256];

	if (q->request == SAVE) {
		say(q, "query-migrate", NULL, -1, on_why_failed);
		return;
	}
	last_words_read(&q->words, line, sizeof line);
	fail(&why, EIO, "QEMU could not load the state%s%s", *line ? ": " : "", line);
	answered(q, &why);
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
	answered(q, NULL);
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

static void on_exited(struct process *p, const siginfo_t *how, void *data)
{
	struct qemu *q = data;
	struct failure why = q->why;
	char text[96], line[256];

	(void)p;
	q->timer = sd_event_source_disable_unref(q->timer);
	if (!why.code) {
		last_words_read(&q->words, line, sizeof line);
		fail(&why, EIO, "QEMU %s%s%s", process_exit_text(how, text, sizeof text), *line ? ": " : "", line);
	}
	answered(q, &why);
	q->vm.watcher->exited(&q->vm, how, q->vm.data);
}

static void on_typable(void *data)
{
	struct qemu *q = data;

	q->vm.watcher->typable(&q->vm, q->vm.data);
}

static const struct qmp_handler qmp_handler = { on_event, on_closed };

/* --- start ------------------------------------------------------------------------------------------------------------------------ */

static void finish_start(struct qemu *q)
{
	if (q->request == START && q->greeted && q->capable)
		answered(q, NULL);
}

static void on_capabilities(const struct failure *why, const cJSON *result, void *data)
{
	struct qemu *q = data;

	(void)result;
	if (why)
		answered(q, why);
}

/* The last of the commands. */
static void on_ready(const struct failure *why, const cJSON *result, void *data)
{
	struct qemu *q = data;

	q->capable = !why;
	on_capabilities(why, result, data);
	finish_start(q);
}

/* What would take time when a guest is to be loaded is done when nobody waits for it. */
static void prepare(struct qemu *q)
{
	char arguments[40];

	say(q, "migrate-set-capabilities", CAPABILITIES, -1, q->incoming < 0 ? on_ready : on_capabilities);
	if (q->incoming < 0)
		return;
	snprintf(arguments, sizeof arguments, "{\"uri\":\"fd:%d\"}", q->launched.incoming);
	say(q, "migrate-incoming", arguments, -1, on_ready);
}

static void on_hello(const struct vm_memory *memory, void *data)
{
	struct qemu *q = data;

	q->greeted = true;
	if (memory)
		q->vm.memory = *memory;
	else
		q->vm.memory.error = -EPIPE;
	finish_start(q);
}

static void on_mapped(int error, void *data)
{
	struct qemu *q = data;
	struct failure why;

	if (q->request != MAP || error == -EPIPE)
		return; /* the end of the process answers */
	if (error)
		fail_errno(&why, -error, "QEMU can't map the memory");
	answered(q, error ? &why : NULL);
}

/* Nobody can be told of the end of a process that isn't watched. */
static int watch(struct qemu *q)
{
	int r = process_watch(&q->vm.process, q->spec.event, on_exited, q);

	if (r >= 0)
		return 0;
	process_kill(&q->vm.process);
	waitid(P_PID, (id_t)q->vm.process.pid, &(siginfo_t){ 0 }, WEXITED);
	process_finish(&q->vm.process);
	close_fd(&q->launched.control);
	close_fd(&q->launched.console);
	close_fd(&q->launched.handover);
	return fail_errno(&q->why, -r, "watch QEMU");
}

static int connect_all(struct qemu *q)
{
	int r = qmp_create(&q->qmp, q->spec.event, steal_fd(&q->launched.control), false, &qmp_handler, q);

	if (r < 0) {
		close_fd(&q->launched.console);
		close_fd(&q->launched.handover);
		return fail_errno(&q->why, -r, "connect to QEMU");
	}
	if (q->launched.handover >= 0)
		r = handover_init(&q->handover, q->spec.event, steal_fd(&q->launched.handover));
	if (r < 0) {
		close_fd(&q->launched.console);
		return fail_errno(&q->why, -r, "connect to QEMU's memory");
	}
	r = typist_init(&q->typist, q->spec.event, steal_fd(&q->launched.console), on_typable, q);
	if (r < 0)
		return fail_errno(&q->why, -r, "connect to the console");
	prepare(q);
	return 0;
}

static void run_launch(struct job *job)
{
	struct qemu *q = container_of(job, struct qemu, job);

	qemu_launch(&q->launched, &q->spec, &q->why);
}

static void set_generation(struct qemu *q)
{
	const struct recipe *r = q->spec.recipe;
	bool has = false;

	for (unsigned int i = 0; i < r->device_count; i++)
		has = has || !strcmp(r->devices[i].type, "vmgenid");
	snprintf(q->vm.generation, sizeof q->vm.generation, "%s", has ? q->launched.generation : "none");
}

static void launch_done(struct job *job)
{
	struct qemu *q = container_of(job, struct qemu, job);
	struct failure why;

	if (q->why.code == 0) {
		q->vm.process = q->launched.process;
		set_generation(q);
		q->words = q->launched.words;
		q->incoming = steal_fd(&q->launched.state);
		if (watch(q) == 0) {
			if (connect_all(q) < 0 || q->killed)
				process_kill(&q->vm.process);
			return;
		}
	}
	why = q->why;
	answered(q, &why);
}

static void destroy(struct vm *vm)
{
	struct qemu *q = of(vm);

	qmp_destroy(q->qmp);
	typist_finish(&q->typist);
	handover_finish(&q->handover);
	vm_memory_finish(&q->vm.memory);
	sd_event_source_disable_unref(q->deferred);
	sd_event_source_disable_unref(q->timer);
	process_finish(&q->vm.process);
	last_words_finish(&q->words);
	close_fd(&q->held);
	end_feed(q);
	close_fd(&q->launched.state);
	free((char *)(uintptr_t)q->spec.id);
	free(q);
}

static int make(struct qemu **ret, const struct vm_spec *spec, const struct vm_watcher *watcher, void *data)
{
	struct qemu *q = calloc(1, sizeof *q);
	int r;

	if (!q)
		return -ENOMEM;
	q->vm = (struct vm){ .driver = &driver_qemu, .process.pidfd = -1, .watcher = watcher, .data = data, .kept = { -1, -1 }, .memory = VM_MEMORY_UNKNOWN };
	q->spec = *spec;
	q->words.fd = q->typist.fd = q->held = q->state = q->incoming = q->launched.state = -1;
	q->handover = (struct handover){ .fd = -1, .hello = on_hello, .answered = on_mapped, .data = q };
	q->launched.handover = -1;
	q->request = START;
	q->spec.id = strdup(spec->id);
	r = q->spec.id ? sd_event_add_defer(spec->event, &q->deferred, on_deferred, q) : -ENOMEM;
	if (r < 0) {
		destroy(&q->vm);
		return r;
	}
	sd_event_source_set_enabled(q->deferred, SD_EVENT_OFF);
	*ret = q;
	return 0;
}

static int start(struct vm **ret, const struct vm_spec *spec, const struct vm_watcher *watcher, void *data, struct failure *why)
{
	struct qemu *q;
	int r = make(&q, spec, watcher, data);

	if (r < 0)
		return fail_errno(why, -r, "start QEMU");
	q->job = (struct job){ .run = run_launch, .done = launch_done };
	jobs_submit(spec->jobs, &q->job);
	*ret = &q->vm;
	return 0;
}

/* --- adoption ---------------------------------------------------------------------------------------------------------------------- */

/* It may have run since the record was written. */
static void on_adopted(const struct failure *why, const cJSON *result, void *data)
{
	const char *status = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(result, "status"));
	struct qemu *q = data;

	if (!status || strcmp(status, "postmigrate"))
		close_fd(&q->held);
	answered(q, why);
}

/* Both sockets listen still; QEMU takes a new client when it has noticed the end of the last one. */
static int reconnect(struct qemu *q, struct failure *why)
{
	int fd = socket_connect_at(q->spec.dir, "qmp", why), r;

	if (fd < 0)
		return fd;
	r = qmp_create(&q->qmp, q->spec.event, fd, true, &qmp_handler, q);
	if (r < 0)
		return fail_errno(why, -r, "connect to QEMU");
	fd = socket_connect_at(q->spec.dir, "console", why);
	if (fd < 0)
		return fd;
	r = typist_init(&q->typist, q->spec.event, fd, on_typable, q);
	return r < 0 ? fail_errno(why, -r, "connect to the console") : 0;
}

/* Its capabilities were set when it was started. What was asked of it last may be under way still: `cont` is refused while a snapshot's state is being written. */
static int adopt(struct vm **ret, const struct vm_spec *spec, const struct process *process, const struct vm_watcher *watcher, void *data, struct failure *why)
{
	struct qemu *q;
	int r = make(&q, spec, watcher, data);

	if (r < 0)
		return fail_errno(why, -r, "take over QEMU");
	q->vm.process = *process;
	last_words_init(&q->words, spec->log);
	q->retries = RETRIES;
	r = reconnect(q, why);
	if (r == 0 && (r = process_watch(&q->vm.process, spec->event, on_exited, q)) < 0)
		fail_errno(why, -r, "watch QEMU");
	if (r < 0) {
		q->vm.process = (struct process){ .pidfd = -1 };
		destroy(&q->vm);
		return r;
	}
	say(q, "query-status", NULL, -1, on_adopted);
	*ret = &q->vm;
	return 0;
}

/* --- requests --------------------------------------------------------------------------------------------------------------------- */

static void begin(struct qemu *q, enum request request)
{
	q->request = request;
	if (qmp_connected(q->qmp)) /* else it says why the process will end */
		q->why.code = 0;
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
		end_feed(q);
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
	answered(q, why);
}

/* Either the wait for the process's end is over, or cont is tried again. */
static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct qemu *q = data;

	(void)source;
	(void)usec;
	if (q->request == RESUME && qmp_connected(q->qmp))
		say(q, "cont", NULL, -1, on_cont);
	else
		process_kill(&q->vm.process);
	return 0;
}

static void resume(struct vm *vm)
{
	struct qemu *q = of(vm);

	begin(q, RESUME);
	say(q, "cont", NULL, -1, on_cont);
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
		answered(data, why);
}

static void pause_(struct vm *vm)
{
	begin(of(vm), PAUSE);
	say(of(vm), "stop", NULL, -1, on_stop);
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
		say(q, "migrate", "{\"uri\":\"fd:s\"}", -1, on_migrate);
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
	.start = start,
	.map = map,
	.load = load,
	.resume = resume,
	.pause = pause_,
	.expect_save = expect_save,
	.save = save,
	.saved = saved,
	.keep = keep,
	.adopt = adopt,
	.type = type,
	.kill = kill_,
	.destroy = destroy,
};
