/* SPDX-License-Identifier: Apache-2.0
 *
 * A VMM without a guest, for tests of what is above it: a process that maps the memory and sleeps. What is typed appears on the console at once.
 * FORKFS_NULL_DELAY_MS in the daemon's environment delays the answer to start by so many milliseconds, for tests of slow VMMs. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "vmm/driver.h"
#include "vmm/helper.h"
#include "vmm/last_words.h"

static const char state_bytes[] = "forkfs null state 1\n";
#define STATE_SIZE (sizeof state_bytes - 1)

struct null {
	struct vm vm;
	struct vm_spec spec; /* what it points to is borrowed until the start is answered */
	struct job job;
	struct process spawned; /* the job's result, with `why` */
	bool killed, busy;
	int mapped; /* a byte comes when the memory is mapped */
	int console;
	struct last_words words;
	struct failure why; /* of the request under way */
	sd_event_source *deferred, *timer, *source;
};

static struct null *of(struct vm *vm)
{
	return container_of(vm, struct null, vm);
}

static void answered(struct null *n, const struct failure *why)
{
	bool was = n->busy;

	n->busy = false;
	if (was)
		n->vm.watcher->answered(&n->vm, why, n->vm.data);
}

static int on_deferred(sd_event_source *source, void *data)
{
	struct null *n = data;

	(void)source;
	answered(n, n->why.code ? &n->why : NULL);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	(void)usec;
	return on_deferred(source, data);
}

static void begin(struct null *n)
{
	n->busy = true;
	n->why.code = 0;
}

static void succeed(struct vm *vm)
{
	begin(of(vm));
	sd_event_source_set_enabled(of(vm)->deferred, SD_EVENT_ONESHOT);
}

static void check_state(struct null *n)
{
	char buf[STATE_SIZE + 1];

	if (n->spec.vmstate >= 0 &&
	    (pread(n->spec.vmstate, buf, sizeof buf, 0) != (ssize_t)STATE_SIZE || memcmp(buf, state_bytes, STATE_SIZE)))
		fail(&n->why, EIO, "the null VMM could not load the state");
}

/* The end of the file without a byte: the process is ending, and that answers. */
static int on_mapped(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct null *n = data;
	const char *delay = getenv("FORKFS_NULL_DELAY_MS");
	uint64_t usec = delay ? strtoull(delay, NULL, 10) * 1000 : 0;
	char byte;

	(void)source;
	(void)revents;
	n->source = sd_event_source_disable_unref(n->source);
	if (read(fd, &byte, 1) != 1)
		return 0;
	check_state(n);
	if (sd_event_add_time_relative(n->spec.event, &n->timer, CLOCK_MONOTONIC, usec, 1, on_timer, n) < 0)
		answered(n, n->why.code ? &n->why : NULL);
	return 0;
}

static void on_exited(struct process *p, const siginfo_t *how, void *data)
{
	struct null *n = data;
	struct failure why;
	char text[96], line[256];

	(void)p;
	sd_event_source_set_enabled(n->deferred, SD_EVENT_OFF);
	n->timer = sd_event_source_disable_unref(n->timer);
	last_words_read(&n->words, line, sizeof line);
	fail(&why, EIO, "the null VMM %s%s%s", process_exit_text(how, text, sizeof text), *line ? ": " : "", line);
	answered(n, &why);
	n->vm.watcher->exited(&n->vm, how, n->vm.data);
}

static int spawn(struct null *n, int program, int ready, struct failure *why)
{
	const struct vm_spec *s = &n->spec;
	char path[32], fd[16], size[32], notify[16];
	char *argv[] = { (char *)(uintptr_t)HELPER_NULL, fd, size,
			 (char *)(uintptr_t)(s->ram->kind == REGION_SHARED ? "shared" : "private"), notify, NULL };
	char *envp[] = { NULL };
	const int fds[] = { s->ram->fd, ready };
	struct process_spec p = { path, argv, envp, fds, ARRAY_LEN(fds), s->log, s->drop, s->uid, s->gid, s->netns, 0 };

	snprintf(path, sizeof path, "/proc/self/fd/%d", program);
	snprintf(fd, sizeof fd, "%d", s->ram->fd);
	snprintf(size, sizeof size, "%llu", (unsigned long long)s->ram->size);
	snprintf(notify, sizeof notify, "%d", ready);
	return process_spawn(&n->spawned, &p, why);
}

static int launch(struct null *n, struct failure *why)
{
	AUTO_CLOSE int program = helper_open(HELPER_NULL, why), ready = -1;
	int pipes[2], r;

	if (program < 0)
		return program;
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return fail_errno(why, errno, "pipe");
	ready = pipes[1];
	r = spawn(n, program, ready, why);
	if (r < 0)
		close_fd(&pipes[0]);
	n->mapped = pipes[0];
	return r;
}

static void run_launch(struct job *job)
{
	struct null *n = container_of(job, struct null, job);

	last_words_init(&n->words, n->spec.log);
	n->console = fcntl(n->spec.console, F_DUPFD_CLOEXEC, 3);
	if (n->console < 0)
		fail_errno(&n->why, errno, "the console's record");
	else
		launch(n, &n->why);
}

/* Nobody can be told of the end of a process that isn't watched. */
static int watch(struct null *n)
{
	int r = process_watch(&n->vm.process, n->spec.event, on_exited, n);

	if (r < 0) {
		process_kill(&n->vm.process);
		waitid(P_PID, (id_t)n->vm.process.pid, &(siginfo_t){ 0 }, WEXITED);
		process_finish(&n->vm.process);
		return fail_errno(&n->why, -r, "watch the null VMM");
	}
	r = sd_event_add_io(n->spec.event, &n->source, n->mapped, EPOLLIN, on_mapped, n);
	if (r < 0 || n->killed)
		process_kill(&n->vm.process);
	return 0;
}

static void launch_done(struct job *job)
{
	struct null *n = container_of(job, struct null, job);
	struct failure why;

	if (n->why.code == 0) {
		n->vm.process = n->spawned;
		if (watch(n) == 0)
			return;
	}
	why = n->why;
	answered(n, &why);
}

static void destroy(struct vm *vm)
{
	struct null *n = of(vm);

	sd_event_source_disable_unref(n->deferred);
	sd_event_source_disable_unref(n->timer);
	sd_event_source_disable_unref(n->source);
	process_finish(&n->vm.process);
	last_words_finish(&n->words);
	close_fd(&n->mapped);
	close_fd(&n->console);
	free(n);
}

static int start(struct vm **ret, const struct vm_spec *spec, const struct vm_watcher *watcher, void *data, struct failure *why)
{
	struct null *n = calloc(1, sizeof *n);
	int r;

	if (!n)
		return fail_errno(why, ENOMEM, "start the null VMM");
	n->vm = (struct vm){ &driver_null, { .pidfd = -1 }, watcher, data };
	n->spec = *spec;
	n->mapped = n->console = n->words.fd = -1;
	r = sd_event_add_defer(spec->event, &n->deferred, on_deferred, n);
	if (r < 0) {
		destroy(&n->vm);
		return fail_errno(why, -r, "start the null VMM");
	}
	sd_event_source_set_enabled(n->deferred, SD_EVENT_OFF);
	begin(n);
	n->job = (struct job){ .run = run_launch, .done = launch_done };
	jobs_submit(spec->jobs, &n->job);
	*ret = &n->vm;
	return 0;
}

static void save(struct vm *vm, int fd)
{
	succeed(vm);
	if (write(fd, state_bytes, STATE_SIZE) != (ssize_t)STATE_SIZE)
		fail(&of(vm)->why, EIO, "the null VMM could not write its state");
}

static ssize_t type(struct vm *vm, const void *data, size_t n)
{
	ssize_t written = write(of(vm)->console, data, n);

	return written > 0 ? written : -EIO;
}

static void kill_(struct vm *vm)
{
	of(vm)->killed = true;
	process_kill(&vm->process);
}

static void probe(const char *binary, bool kvm, struct driver_facts *ret)
{
	(void)binary;
	(void)kvm;
	*ret = (struct driver_facts){ .usable = true };
	snprintf(ret->version, sizeof ret->version, "%s", FORKFS_VERSION);
}

static int check(const struct recipe *recipe, enum region_kind kind, struct failure *why)
{
	(void)recipe;
	if (kind != REGION_SHARED && kind != REGION_FILE)
		return fail(why, EINVAL, "no memory to map");
	return 0;
}

static int describe(struct recipe *recipe, const struct driver_facts *facts, struct failure *why)
{
	(void)why;
	snprintf(recipe->driver, sizeof recipe->driver, "null");
	snprintf(recipe->driver_version, sizeof recipe->driver_version, "%s", facts->version);
	snprintf(recipe->cpu, sizeof recipe->cpu, "none");
	recipe->device_count = 1;
	recipe->devices[0] = (struct recipe_device){ "serial", "console" };
	return 0;
}

const struct driver driver_null = {
	.name = "null",
	.automatic = false,
	.probe = probe,
	.check = check,
	.describe = describe,
	.start = start,
	.resume = succeed,
	.pause = succeed,
	.save = save,
	.type = type,
	.kill = kill_,
	.destroy = destroy,
};
