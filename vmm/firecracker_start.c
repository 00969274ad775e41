/* SPDX-License-Identifier: Apache-2.0
 *
 * How a Firecracker begins, is taken over from a former daemon, and ends. */
#include <cjson/cJSON.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "vmm/base/log.h"
#include "vmm/firecracker_private.h"
#include "vmm/firecracker_probe.h"
#include "vmm/open_files.h"
#include "vmm/scheduling.h"
#include "vmm/sockets.h"

#define WARMING_USEC 20000
#define RETRY_USEC 1000 /* it binds its socket before it listens */

static void on_exited(struct process *p, const siginfo_t *how, void *data)
{
	static const struct {
		int status;
		const char *meaning;
	} known[] = {
		{ 148, "a system call that its seccomp filter forbids" },
		{ 149, "SIGBUS: a page of its memory can't be had" },
		{ 150, "SIGSEGV" },
		{ 151, "SIGXFSZ" },
		{ 152, "its configuration can't be used" },
		{ 153, "its command line can't be used" },
		{ 156, "SIGXCPU" },
		{ 157, "SIGPIPE" },
		{ 158, "SIGHUP" },
		{ 159, "SIGILL" },
	};
	struct firecracker *f = data;
	const char *meaning = NULL;
	char text[96], line[256];
	struct failure why;

	(void)p;
	f->hurried = false; /* the numbers of its threads may be others' */
	firecracker_api_flush(f->api); /* one that refuses to load says so before it ends */
	f->timer = sd_event_source_disable_unref(f->timer);
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (how->si_code == CLD_EXITED && how->si_status == known[i].status)
			meaning = known[i].meaning;
	last_words_read(&f->launched.words, line, sizeof line);
	fail(&why, EIO, "Firecracker %s%s%s%s%s%s", process_exit_text(how, text, sizeof text), meaning ? " (" : "", meaning ?: "", meaning ? ")" : "",
	     *line ? ": " : "", line);
	if (f->why.code && how->si_code == CLD_KILLED && how->si_status == SIGKILL)
		why = f->why; /* that is why it was killed */
	firecracker_answered(f, &why);
	f->vm.watcher->exited(&f->vm, how, f->vm.data);
}

static void on_typable(void *data)
{
	struct firecracker *f = data;

	f->vm.watcher->typable(&f->vm, f->vm.data);
}

/* What it waits for is ours to make: no delay of its own. */
static void on_busy(bool busy, void *data)
{
	struct firecracker *f = container_of((struct firecracker_files *)data, struct firecracker, files);

	if (f->request != NOTHING)
		f->vm.watcher->busy(&f->vm, busy, f->vm.data);
}

/* --- start ------------------------------------------------------------------------------------------------------------------------ */

static void on_kernel(const struct failure *why, void *data)
{
	struct firecracker *f = data;

	f->files.kernel = f->files.initrd = -1;
	f->unborn = !why;
	firecracker_on_answer(why, f);
}

static void on_machine(const struct failure *why, void *data)
{
	struct firecracker *f = data;
	cJSON *json = why ? NULL : cJSON_CreateObject();
	char *body = NULL;

	if (why) {
		firecracker_on_answer(why, f);
		return;
	}
	if (cJSON_AddStringToObject(json, "kernel_image_path", FIRECRACKER_KERNEL) && cJSON_AddStringToObject(json, "boot_args", f->spec.args) &&
	    (f->spec.initrd < 0 || cJSON_AddStringToObject(json, "initrd_path", FIRECRACKER_INITRD)))
		body = cJSON_PrintUnformatted(json);
	if (body) {
		firecracker_ask(f, "PUT", "/boot-source", body, on_kernel);
	} else {
		fail(&f->why, ENOMEM, "no memory to tell Firecracker its kernel");
		firecracker_answer_later(f);
	}
	cJSON_free(body);
	cJSON_Delete(json);
}

/* One that waits is ready; of a boot it is told the machine. */
static void listens(struct firecracker *f)
{
	const struct recipe *r = f->spec.recipe;
	char body[160];

	if (f->spec.kernel < 0) {
		firecracker_answered(f, NULL);
		return;
	}
	f->files.kernel = f->spec.kernel;
	f->files.initrd = f->spec.initrd;
	f->files.memory = f->launched.ram;
	snprintf(body, sizeof body, "{\"vcpu_count\":%u,\"mem_size_mib\":%llu,\"memory_path\":\"" FIRECRACKER_MEMORY "\"}", r->vcpus, (unsigned long long)(r->ram_size >> 20));
	firecracker_ask(f, "PUT", "/machine-config", body, on_machine);
}

/* The connection stands from now on, and what answers there has run once: whoever waits for the next answer waits for less. Done when nobody waits. */
static void on_version(const struct failure *why, void *data)
{
	(void)why; /* whatever it is, it is said again when it matters */
	(void)data;
}

static int on_warming(sd_event_source *source, uint64_t usec, void *data)
{
	struct firecracker *f = data;

	(void)source;
	(void)usec;
	f->warming = sd_event_source_disable_unref(f->warming);
	firecracker_api_send(f->api, "GET", "/version", "", on_version, f);
	return 0;
}

/* Whether it listens: a connection that is given up at once is no harm. */
static int on_listening_look(sd_event_source *source, uint64_t usec, void *data)
{
	struct firecracker *f = data;
	int fd = socket_connect_at(f->launched.sockets, FIRECRACKER_API, NULL);

	(void)source;
	(void)usec;
	if (fd >= 0) {
		close_fd(&fd);
		sd_event_add_time_relative(f->spec.event, &f->warming, CLOCK_MONOTONIC, WARMING_USEC, 1000, on_warming, f);
		f->api_thread = thread_named(f->vm.process.pid, FIRECRACKER_API_THREAD);
		listens(f);
	} else if (firecracker_after(f, RETRY_USEC, on_listening_look) < 0) {
		process_kill(&f->vm.process);
	}
	return 0;
}

/* The only thing that is ever created there before it listens. */
static int on_created(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct firecracker *f = data;

	(void)fd;
	(void)revents;
	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	return on_listening_look(NULL, 0, f);
}

/* Nobody can be told of the end of a process that isn't watched. */
static int watch(struct firecracker *f)
{
	int r;

	f->vm.process = f->launched.process;
	r = process_watch(&f->vm.process, f->spec.event, on_exited, f);
	if (r >= 0)
		return 0;
	process_end(&f->vm.process);
	return fail_errno(&f->why, -r, "watch Firecracker");
}

static int connect_all(struct firecracker *f)
{
	char path[64];
	int r;

	f->files.log = f->launched.log;
	r = opens_init(&f->opens, f->spec.event, f->spec.jobs, steal_fd(&f->launched.opens));
	firecracker_socket_path(f->launched.sockets, FIRECRACKER_API, path, sizeof path);
	if (r == 0)
		r = firecracker_api_create(&f->api, f->spec.event, path, &f->why);
	if (r == 0)
		r = typist_init(&f->typist, f->spec.event, steal_fd(&f->launched.console), on_typable, f);
	if (r == 0)
		r = sd_event_add_io(f->spec.event, &f->created, f->launched.created, EPOLLIN, on_created, f);
	if (r >= 0 && f->launched.handover >= 0)
		r = sd_event_add_io(f->spec.event, &f->handover, f->launched.handover, EPOLLIN, firecracker_on_handover, f);
	return r;
}

static void run_launch(struct job *job)
{
	struct firecracker *f = container_of(job, struct firecracker, job);

	firecracker_launch(&f->launched, &f->spec, &f->why);
}

static void launch_done(struct job *job)
{
	struct firecracker *f = container_of(job, struct firecracker, job);
	struct failure why;
	int r;

	if (f->why.code || watch(f) < 0) {
		why = f->why;
		firecracker_answered(f, &why);
		return;
	}
	r = connect_all(f);
	if (r < 0) {
		fail_errno(&f->why, -r, "connect to Firecracker");
		f->killed = true;
	}
	if (f->killed)
		process_kill(&f->vm.process);
}

void firecracker_destroy(struct vm *vm)
{
	struct firecracker *f = of(vm);

	firecracker_api_destroy(f->api);
	opens_finish(&f->opens);
	typist_finish(&f->typist);
	sd_event_source_disable_unref(f->deferred);
	sd_event_source_disable_unref(f->timer);
	sd_event_source_disable_unref(f->created);
	sd_event_source_disable_unref(f->warming);
	sd_event_source_disable_unref(f->handover);
	sd_event_source_disable_unref(f->mapped);
	vm_memory_finish(&f->vm.memory);
	process_finish(&f->vm.process);
	if (f->launched.sockets >= 0 && !vm->left) {
		unlinkat(f->launched.sockets, FIRECRACKER_API, 0);
		unlinkat(f->launched.sockets, FIRECRACKER_HANDOVER, 0);
		unlinkat(f->launched.sockets, FIRECRACKER_GUEST_VSOCK, 0);
	}
	firecracker_launched_finish(&f->launched);
	close_fd(&f->memory);
	close_fd(&f->go);
	free(f->id);
	free(f);
}

static int make(struct firecracker **ret, const struct vm_spec *spec, const struct vm_watcher *watcher, void *data)
{
	struct firecracker *f = calloc(1, sizeof *f);
	int r;

	if (!f)
		return -ENOMEM;
	/* Its generation is new at each load, and its own secret. */
	f->vm = VM_NEW(&driver_firecracker, watcher, data);
	f->vm.memory.error = -EOPNOTSUPP; /* unless it hands one over */
	f->spec = *spec;
	f->abilities = spec->program->abilities;
	f->launched = FIRECRACKER_LAUNCHED_NONE;
	f->opens = (struct opens){ .fd = -1, .answer = firecracker_files_answer, .busy = on_busy, .data = &f->files };
	f->files = FIRECRACKER_FILES_NONE;
	f->files.devices.unprivileged = spec->drop;
	f->files.devices.uid = spec->drop ? spec->uid : geteuid();
	f->files.devices.gid = spec->drop ? spec->gid : getegid();
	f->typist.fd = f->memory = f->go = -1;
	f->request = START;
	f->id = strdup(spec->id);
	r = f->id ? sd_event_add_defer(spec->event, &f->deferred, firecracker_on_deferred, f) : -ENOMEM;
	if (r < 0) {
		firecracker_destroy(&f->vm);
		return r;
	}
	sd_event_source_set_enabled(f->deferred, SD_EVENT_OFF);
	*ret = f;
	return 0;
}

int firecracker_start(struct vm **ret, const struct vm_spec *spec, const struct vm_watcher *watcher, void *data, struct failure *why)
{
	struct firecracker *f;
	int r = make(&f, spec, watcher, data);

	if (r < 0)
		return fail_errno(why, -r, "start Firecracker");
	f->job = (struct job){ .run = run_launch, .done = launch_done };
	jobs_submit(spec->jobs, &f->job);
	*ret = &f->vm;
	return 0;
}

/* --- adoption ---------------------------------------------------------------------------------------------------------------------- */

/* Its stdin is a pipe, of which it holds the other end open: a FIFO's any end can be opened anew. */
static int reopen_console(struct firecracker *f)
{
	char path[32];
	int fd;

	snprintf(path, sizeof path, "/proc/%d/fd/0", (int)f->vm.process.pid);
	fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	return fd < 0 ? -errno : typist_init(&f->typist, f->spec.event, fd, on_typable, f);
}

static int reconnect(struct firecracker *f, struct failure *why)
{
	struct file_id id;
	char path[64];
	int r = open_files_take_anonymous(&f->vm.process, "anon_inode:seccomp notify");

	if (r >= 0)
		r = opens_init(&f->opens, f->spec.event, f->spec.jobs, r);
	if (r < 0)
		return fail_errno(why, -r, "be asked about what Firecracker opens");
	f->launched.sockets = openat(f->spec.dir, FIRECRACKER_SOCKETS, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (f->launched.sockets < 0)
		return fail_errno(why, errno, "the directory of Firecracker's sockets");
	if (file_id_get(&id, f->launched.sockets) == 0)
		f->launched.theirs = open_files_find(&f->vm.process, &id, true);
	firecracker_socket_path(f->launched.sockets, FIRECRACKER_API, path, sizeof path);
	r = firecracker_api_create(&f->api, f->spec.event, path, why);
	if (r < 0)
		return r;
	r = reopen_console(f);
	if (r < 0)
		log_warn("%s: its console takes nothing any more: %s", f->id, strerror(-r));
	r = process_watch(&f->vm.process, f->spec.event, on_exited, f);
	return r < 0 ? fail_errno(why, -r, "watch Firecracker") : 0;
}

/* The userfaultfd of one that was booted was the former daemon's alone, and ended with it: another one is asked for. */
static void on_again(const struct failure *why, void *data)
{
	struct firecracker *f = data;
	struct failure unheard;

	if (why || f->vm.memory.uffd >= 0 || !(f->abilities & FIRECRACKER_WP)) {
		firecracker_on_answer(why, f);
		return;
	}
	if (firecracker_listen(&f->launched, &f->spec, &unheard) < 0 ||
	    sd_event_add_io(f->spec.event, &f->handover, f->launched.handover, EPOLLIN, firecracker_on_handover, f) < 0) {
		log_warn("%s: its writes can't be noticed", f->id);
		firecracker_answered(f, NULL);
		return;
	}
	firecracker_on_begun(NULL, f);
}

int firecracker_adopt(struct vm **ret, const struct vm_spec *spec, const struct process *process, const struct vm_watcher *watcher, void *data, struct failure *why)
{
	struct firecracker *f;
	int r = make(&f, spec, watcher, data);

	if (r < 0)
		return fail_errno(why, -r, "take over Firecracker");
	f->vm.process = *process;
	last_words_init(&f->launched.words, spec->log);
	f->files.log = f->launched.log = fcntl(spec->log, F_DUPFD_CLOEXEC, 3);
	r = reconnect(f, why);
	if (r < 0) {
		f->vm.process = (struct process){ .pidfd = -1 };
		close_fd(&f->launched.sockets); /* what is in there is needed still */
		firecracker_destroy(&f->vm);
		return r;
	}
	f->api_thread = thread_named(f->vm.process.pid, FIRECRACKER_API_THREAD);
	f->hurried = true; /* the other daemon may have died amidst a request */
	firecracker_calm(f);
	firecracker_ask(f, "GET", "/version", "", on_again);
	*ret = &f->vm;
	return 0;
}

