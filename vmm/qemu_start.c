/* SPDX-License-Identifier: Apache-2.0
 *
 * How a QEMU begins, is taken over from a former daemon, and ends. */
#include <stdio.h>
#include <string.h>

#include "vmm/qemu_private.h"
#include "vmm/sockets.h"

#define CAPABILITIES                                                                                                                     \
	"{\"capabilities\":[{\"capability\":\"x-ignore-shared\",\"state\":true},{\"capability\":\"events\",\"state\":true}]}"

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
	qemu_answered(q, &why);
	q->vm.watcher->exited(&q->vm, how, q->vm.data);
}

static void on_typable(void *data)
{
	struct qemu *q = data;

	q->vm.watcher->typable(&q->vm, q->vm.data);
}

/* --- start ------------------------------------------------------------------------------------------------------------------------ */

static void finish_start(struct qemu *q)
{
	if (q->request == START && q->greeted && q->capable)
		qemu_answered(q, NULL);
}

static void on_capabilities(const struct failure *why, const cJSON *result, void *data)
{
	struct qemu *q = data;

	(void)result;
	if (why)
		qemu_answered(q, why);
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

	qemu_say(q, "migrate-set-capabilities", CAPABILITIES, -1, q->incoming < 0 ? on_ready : on_capabilities);
	if (q->incoming < 0)
		return;
	snprintf(arguments, sizeof arguments, "{\"uri\":\"fd:%d\"}", q->launched.incoming);
	qemu_say(q, "migrate-incoming", arguments, -1, on_ready);
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

/* Nobody can be told of the end of a process that isn't watched. */
static int watch(struct qemu *q)
{
	int r = process_watch(&q->vm.process, q->spec.event, on_exited, q);

	if (r >= 0)
		return 0;
	process_end(&q->vm.process);
	close_fd(&q->launched.control);
	close_fd(&q->launched.console);
	close_fd(&q->launched.handover);
	return fail_errno(&q->why, -r, "watch QEMU");
}

static int connect_all(struct qemu *q)
{
	int r = qmp_create(&q->qmp, q->spec.event, steal_fd(&q->launched.control), false, &qemu_handler, q);

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
	qemu_answered(q, &why);
}

void qemu_destroy(struct vm *vm)
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
	qemu_end_feed(q);
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
	q->vm = VM_NEW(&driver_qemu, watcher, data);
	q->spec = *spec;
	q->words.fd = q->typist.fd = q->held = q->state = q->incoming = q->launched.state = -1;
	q->handover = (struct handover){ .fd = -1, .hello = on_hello, .answered = qemu_on_mapped, .data = q };
	q->launched.handover = -1;
	q->request = START;
	q->spec.id = strdup(spec->id);
	r = q->spec.id ? sd_event_add_defer(spec->event, &q->deferred, qemu_on_deferred, q) : -ENOMEM;
	if (r < 0) {
		qemu_destroy(&q->vm);
		return r;
	}
	sd_event_source_set_enabled(q->deferred, SD_EVENT_OFF);
	*ret = q;
	return 0;
}

int qemu_start(struct vm **ret, const struct vm_spec *spec, const struct vm_watcher *watcher, void *data, struct failure *why)
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
	qemu_answered(q, why);
}

/* Both sockets listen still; QEMU takes a new client when it has noticed the end of the last one. */
static int reconnect(struct qemu *q, struct failure *why)
{
	int fd = socket_connect_at(q->spec.dir, "qmp", why), r;

	if (fd < 0)
		return fd;
	r = qmp_create(&q->qmp, q->spec.event, fd, true, &qemu_handler, q);
	if (r < 0)
		return fail_errno(why, -r, "connect to QEMU");
	fd = socket_connect_at(q->spec.dir, "console", why);
	if (fd < 0)
		return fd;
	r = typist_init(&q->typist, q->spec.event, fd, on_typable, q);
	return r < 0 ? fail_errno(why, -r, "connect to the console") : 0;
}

/* Its capabilities were set when it was started. What was asked of it last may be under way still: `cont` is refused while a snapshot's state is being written. */
int qemu_adopt(struct vm **ret, const struct vm_spec *spec, const struct process *process, const struct vm_watcher *watcher, void *data, struct failure *why)
{
	struct qemu *q;
	int r = make(&q, spec, watcher, data);

	if (r < 0)
		return fail_errno(why, -r, "take over QEMU");
	q->vm.process = *process;
	last_words_init(&q->words, spec->log);
	q->retries = QEMU_RETRIES;
	r = reconnect(q, why);
	if (r == 0 && (r = process_watch(&q->vm.process, spec->event, on_exited, q)) < 0)
		fail_errno(why, -r, "watch QEMU");
	if (r < 0) {
		q->vm.process = (struct process){ .pidfd = -1 };
		qemu_destroy(&q->vm);
		return r;
	}
	qemu_say(q, "query-status", NULL, -1, on_adopted);
	*ret = &q->vm;
	return 0;
}

