/* SPDX-License-Identifier: Apache-2.0
 *
 * A VMM without a guest, for tests of what is above it: a process that maps the memory and sleeps. What is typed appears on the console at once.
 * FORKFS_NULL_DELAY_MS in the daemon's environment delays the answers to a boot and to load by so many milliseconds, for tests of slow VMMs. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "vmm/driver.h"
#include "vmm/handover.h"
#include "vmm/helper.h"
#include "vmm/last_words.h"
#include "vmm/vm_process.h"

static const char state_bytes[] = "forkfs null state 1\n";
#define STATE_SIZE (sizeof state_bytes - 1)

struct null {
	struct vm vm;
	struct vm_spec spec; /* what it points to is borrowed until the start is answered */
	struct job job;
	struct process spawned; /* the job's result, with `why` */
	bool killed, busy;
	bool mapping; /* the request under way */
	int ours; /* the job's: of the handover */
	int console;
	int state; /* load's */
	struct handover handover;
	struct last_words words;
	struct failure why; /* of the request under way */
	sd_event_source *deferred, *timer;
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

	if (n->state >= 0 && (pread(n->state, buf, sizeof buf, 0) != (ssize_t)STATE_SIZE || memcmp(buf, state_bytes, STATE_SIZE)))
		fail(&n->why, EIO, "the null VMM could not load the state");
}

static void answer_delayed(struct null *n)
{
	const char *delay = getenv("FORKFS_NULL_DELAY_MS");
	uint64_t usec = delay ? strtoull(delay, NULL, 10) * 1000 : 0;

	n->timer = sd_event_source_disable_unref(n->timer);
	if (sd_event_add_time_relative(n->spec.event, &n->timer, CLOCK_MONOTONIC, usec, 1, on_timer, n) < 0)
		answered(n, n->why.code ? &n->why : NULL);
}

/* Without a hello the process is ending, and that answers. */
static void on_hello(const struct vm_memory *memory, void *data)
{
	struct null *n = data;

	if (!memory)
		return;
	n->vm.memory = *memory;
	if (n->spec.kernel < 0) {
		answered(n, NULL);
		return;
	}
	answer_delayed(n);
}

static void on_mapped(int error, void *data)
{
	struct null *n = data;

	if (error == -EPIPE || !n->mapping)
		return;
	if (error)
		fail_errno(&n->why, -error, "the null VMM can't map the memory");
	answered(n, n->why.code ? &n->why : NULL);
}

static void map(struct vm *vm, const struct region *ram, int vmstate)
{
	struct null *n = of(vm);
	int r = 0;

	(void)vmstate;
	begin(n);
	n->mapping = ram;
	if (ram)
		r = handover_give(&n->handover, ram->fd);
	if (r < 0)
		fail_errno(&n->why, -r, "the null VMM can't be handed its memory");
	if (r < 0 || !ram)
		sd_event_source_set_enabled(n->deferred, SD_EVENT_ONESHOT);
}

static void load(struct vm *vm, int vmstate)
{
	struct null *n = of(vm);

	begin(n);
	n->mapping = false;
	n->state = vmstate;
	check_state(n);
	answer_delayed(n);
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

static int spawn(struct null *n, int program, int control, int uffd, struct failure *why)
{
	const struct vm_spec *s = &n->spec;
	char path[32], fd[16], size[32], sock[16], device[16];
	char *argv[] = { (char *)(uintptr_t)HELPER_NULL, fd, size, sock, device, NULL };
	char *envp[] = { NULL };
	const int fds[] = { s->ram->fd, control, uffd };
	AUTO_CONFINEMENT struct confinement files = CONFINEMENT_NONE;
	struct process_spec p = vm_process(s, &files, 0);
	int r = confinement_make(&files, &(struct allow){ .fd = program, .what = ALLOW_READ | ALLOW_EXECUTE }, 1, why);

	if (r < 0)
		return r;
	p.path = path;
	p.argv = argv;
	p.envp = envp;
	p.fds = fds;
	p.fd_count = ARRAY_LEN(fds) - (uffd < 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", program);
	snprintf(fd, sizeof fd, "%d", s->ram->fd);
	snprintf(size, sizeof size, "%llu", (unsigned long long)s->ram->size);
	snprintf(sock, sizeof sock, "%d", control);
	snprintf(device, sizeof device, "%d", uffd);
	return process_spawn(&n->spawned, &p, why);
}

static int launch(struct null *n, struct failure *why)
{
	AUTO_CLOSE int program = helper_open(HELPER_NULL, why), ours = -1, theirs = -1, uffd = handover_uffd_device();
	int r;

	if (program < 0)
		return program;
	r = handover_pair(&ours, &theirs);
	if (r < 0)
		return fail_errno(why, -r, "a socket for the memory");
	r = spawn(n, program, theirs, uffd, why);
	if (r == 0)
		n->ours = steal_fd(&ours);
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
		process_end(&n->vm.process);
		return fail_errno(&n->why, -r, "watch the null VMM");
	}
	r = handover_init(&n->handover, n->spec.event, steal_fd(&n->ours));
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
	handover_finish(&n->handover);
	vm_memory_finish(&n->vm.memory);
	process_finish(&n->vm.process);
	last_words_finish(&n->words);
	close_fd(&n->ours);
	close_fd(&n->console);
	free(n);
}

static int make(struct null **ret, const struct vm_spec *spec, const struct vm_watcher *watcher, void *data)
{
	struct null *n = calloc(1, sizeof *n);
	int r;

	if (!n)
		return -ENOMEM;
	n->vm = VM_NEW(&driver_null, watcher, data);
	n->spec = *spec;
	snprintf(n->vm.generation, sizeof n->vm.generation, "none");
	n->ours = n->state = n->console = n->words.fd = -1;
	n->handover = (struct handover){ .fd = -1, .hello = on_hello, .answered = on_mapped, .data = n };
	r = sd_event_add_defer(spec->event, &n->deferred, on_deferred, n);
	if (r < 0) {
		destroy(&n->vm);
		return r;
	}
	sd_event_source_set_enabled(n->deferred, SD_EVENT_OFF);
	*ret = n;
	return 0;
}

static int start(struct vm **ret, const struct vm_spec *spec, const struct vm_watcher *watcher, void *data, struct failure *why)
{
	struct null *n;
	int r;

	r = make(&n, spec, watcher, data);
	if (r < 0)
		return fail_errno(why, -r, "start the null VMM");
	begin(n);
	n->job = (struct job){ .run = run_launch, .done = launch_done };
	jobs_submit(spec->jobs, &n->job);
	*ret = &n->vm;
	return 0;
}

static void keep(struct vm *vm)
{
	handover_live(&of(vm)->handover, vm->kept, VM_KEPT); /* at a closed socket the process is ending */
}

static int adopt(struct vm **ret, const struct vm_spec *spec, const struct process *process, const struct vm_watcher *watcher, void *data, struct failure *why)
{
	struct null *n;
	int r = make(&n, spec, watcher, data);

	if (r < 0)
		return fail_errno(why, -r, "take over the null VMM");
	n->vm.process = *process;
	last_words_init(&n->words, spec->log);
	n->console = fcntl(spec->console, F_DUPFD_CLOEXEC, 3);
	r = n->console < 0 ? -errno : process_watch(&n->vm.process, spec->event, on_exited, n);
	if (r < 0) {
		n->vm.process = (struct process){ .pidfd = -1 };
		destroy(&n->vm);
		return fail_errno(why, -r, "take over the null VMM");
	}
	succeed(&n->vm);
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

static void probe(const char *path, const struct kvm_facts *kvm, struct driver_facts *ret)
{
	(void)path;
	(void)kvm;
	*ret = (struct driver_facts){ .usable = true, .boots = true, .places = true };
	snprintf(ret->version, sizeof ret->version, "%s", FORKFS_VERSION);
}

static int check(const struct recipe *recipe, enum region_kind kind, const struct driver_facts *facts, struct failure *why)
{
	(void)recipe;
	(void)facts;
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
	.map = map,
	.load = load,
	.resume = succeed,
	.pause = succeed,
	.save = save,
	.keep = keep,
	.adopt = adopt,
	.type = type,
	.kill = kill_,
	.destroy = destroy,
};
