/* SPDX-License-Identifier: Apache-2.0
 *
 * Firecracker as a VMM. What it is to open it names, and is given a descriptor when it does (opens.h): so memory that was made after its start can be its guest's, and it
 * needs no right to any file. A patched one hands over a userfaultfd while it loads, and goes on when it is told to. All on the loop. */
#include <cjson/cJSON.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "vmm/base/log.h"
#include "vmm/firecracker_api.h"
#include "vmm/firecracker_files.h"
#include "vmm/firecracker_launch.h"
#include "vmm/firecracker_probe.h"
#include "vmm/firecracker_uffd.h"
#include "vmm/open_files.h"
#include "vmm/opens.h"
#include "vmm/scheduling.h"
#include "vmm/sockets.h"
#include "vmm/typist.h"

#define GRACE_USEC 2000000 /* between the end of the control socket and that of the process */
#define WARMING_USEC 20000
#define RETRY_USEC 1000    /* it binds its socket before it listens */

enum request { NOTHING, START, MAP, LOAD, RESUME, PAUSE, SAVE };

struct firecracker {
	struct vm vm;
	struct vm_spec spec; /* what it points to is borrowed until the start is answered */
	char *id;
	unsigned int abilities;
	struct job job;
	struct firecracker_launched launched; /* the job's result, with `why` */
	bool killed;                          /* asked for while the job ran */

	enum request request;
	struct failure why; /* of the request under way, or of the end that is due */
	sd_event_source *deferred, *timer, *created, *warming;
	struct firecracker_api *api;
	struct opens opens;
	struct typist typist;

	struct firecracker_files files;
	pid_t api_thread;     /* its one that answers, 0: unknown */
	bool hurried;         /* the threads that answer go before all others */
	int memory;           /* of those, its own; -1 */
	bool shared;          /* it is its own, mapped shared */
	bool unborn;          /* a guest that is booted, and has not begun */
	bool loading, loaded; /* the load was asked for; answered */
	int go;         /* where the one that handed over a userfaultfd waits for a byte, -1 */
	sd_event_source *handover, *mapped;
};

static struct firecracker *of(struct vm *vm)
{
	return container_of(vm, struct firecracker, vm);
}

/* Else an answer waits behind the guest that has just been woken, until the next tick: 4 ms. */
static void hurry(struct firecracker *f)
{
	if (!f->spec.drop)
		return;
	thread_hurry(f->vm.process.pid, f->vm.process.pid);
	thread_hurry(f->vm.process.pid, f->api_thread);
	f->hurried = true;
}

static void calm(struct firecracker *f)
{
	int nice = getpriority(PRIO_PROCESS, 0);

	if (!f->hurried)
		return;
	thread_calm(f->vm.process.pid, f->vm.process.pid, nice, FIRECRACKER_SLICE);
	thread_calm(f->vm.process.pid, f->api_thread, nice, FIRECRACKER_SLICE);
	f->hurried = false;
}

static void answered(struct firecracker *f, const struct failure *why)
{
	enum request was = f->request;

	calm(f);
	f->request = NOTHING;
	if (was == LOAD || was == SAVE)
		f->files.vmstate = -1;
	f->files.saving = false;
	if (was != NOTHING)
		f->vm.watcher->answered(&f->vm, why, f->vm.data);
}

static int on_deferred(sd_event_source *source, void *data)
{
	struct firecracker *f = data;
	struct failure why = f->why;

	(void)source;
	f->why.code = 0;
	answered(f, why.code ? &why : NULL);
	return 0;
}

/* With f->why, or success where its code is 0. */
static void answer_later(struct firecracker *f)
{
	sd_event_source_set_enabled(f->deferred, SD_EVENT_ONESHOT);
}

static void begin(struct firecracker *f, enum request request)
{
	f->request = request;
	f->why.code = 0;
}

/* --- asking ----------------------------------------------------------------------------------------------------------------------- */

static int on_grace_over(sd_event_source *source, uint64_t usec, void *data)
{
	struct firecracker *f = data;

	(void)source;
	(void)usec;
	process_kill(&f->vm.process);
	return 0;
}

static int after(struct firecracker *f, uint64_t usec, sd_event_time_handler_t what)
{
	f->timer = sd_event_source_disable_unref(f->timer);
	return sd_event_add_time_relative(f->spec.event, &f->timer, CLOCK_MONOTONIC, usec, 1, what, f);
}

/* A broken connection is most often the end of the process, which says more and answers. */
static void on_answer(const struct failure *why, void *data)
{
	struct firecracker *f = data;

	if (!why || (why->code != ECONNRESET && why->code != EPROTO)) {
		answered(f, why);
		return;
	}
	f->why = *why;
	f->why.code = EIO;
	if (why->code == EPROTO || after(f, GRACE_USEC, on_grace_over) < 0)
		process_kill(&f->vm.process);
}

static void ask(struct firecracker *f, const char *method, const char *target, const char *body, firecracker_answer to)
{
	int r;

	f->warming = sd_event_source_disable_unref(f->warming);
	r = firecracker_api_send(f->api, method, target, body, to, f);
	if (r == 0)
		return;
	fail_errno(&f->why, -r, "ask Firecracker for %s", target);
	answer_later(f);
}

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
	answered(f, &why);
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

static int on_handover(sd_event_source *source, int fd, uint32_t revents, void *data);
static void on_begun(const struct failure *why, void *data);

static void on_kernel(const struct failure *why, void *data)
{
	struct firecracker *f = data;

	f->files.kernel = f->files.initrd = -1;
	f->unborn = !why;
	on_answer(why, f);
}

static void on_machine(const struct failure *why, void *data)
{
	struct firecracker *f = data;
	cJSON *json = why ? NULL : cJSON_CreateObject();
	char *body = NULL;

	if (why) {
		on_answer(why, f);
		return;
	}
	if (cJSON_AddStringToObject(json, "kernel_image_path", FIRECRACKER_KERNEL) && cJSON_AddStringToObject(json, "boot_args", f->spec.args) &&
	    (f->spec.initrd < 0 || cJSON_AddStringToObject(json, "initrd_path", FIRECRACKER_INITRD)))
		body = cJSON_PrintUnformatted(json);
	if (body) {
		ask(f, "PUT", "/boot-source", body, on_kernel);
	} else {
		fail(&f->why, ENOMEM, "no memory to tell Firecracker its kernel");
		answer_later(f);
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
		answered(f, NULL);
		return;
	}
	f->files.kernel = f->spec.kernel;
	f->files.initrd = f->spec.initrd;
	f->files.memory = f->launched.ram;
	snprintf(body, sizeof body, "{\"vcpu_count\":%u,\"mem_size_mib\":%llu,\"memory_path\":\"" FIRECRACKER_MEMORY "\"}", r->vcpus, (unsigned long long)(r->ram_size >> 20));
	ask(f, "PUT", "/machine-config", body, on_machine);
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
	} else if (after(f, RETRY_USEC, on_listening_look) < 0) {
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
	process_kill(&f->vm.process);
	waitid(P_PID, (id_t)f->vm.process.pid, &(siginfo_t){ 0 }, WEXITED);
	process_finish(&f->vm.process);
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
		r = sd_event_add_io(f->spec.event, &f->handover, f->launched.handover, EPOLLIN, on_handover, f);
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
		answered(f, &why);
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

static void destroy(struct vm *vm)
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
	f->vm = (struct vm){
		.driver = &driver_firecracker, .process.pidfd = -1, .watcher = watcher, .data = data, .kept = { -1, -1 }, .memory = VM_MEMORY_UNKNOWN
	};
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
	r = f->id ? sd_event_add_defer(spec->event, &f->deferred, on_deferred, f) : -ENOMEM;
	if (r < 0) {
		destroy(&f->vm);
		return r;
	}
	sd_event_source_set_enabled(f->deferred, SD_EVENT_OFF);
	*ret = f;
	return 0;
}

static int start(struct vm **ret, const struct vm_spec *spec, const struct vm_watcher *watcher, void *data, struct failure *why)
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
		on_answer(why, f);
		return;
	}
	if (firecracker_listen(&f->launched, &f->spec, &unheard) < 0 ||
	    sd_event_add_io(f->spec.event, &f->handover, f->launched.handover, EPOLLIN, on_handover, f) < 0) {
		log_warn("%s: its writes can't be noticed", f->id);
		answered(f, NULL);
		return;
	}
	on_begun(NULL, f);
}

static int adopt(struct vm **ret, const struct vm_spec *spec, const struct process *process, const struct vm_watcher *watcher, void *data, struct failure *why)
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
		destroy(&f->vm);
		return r;
	}
	f->api_thread = thread_named(f->vm.process.pid, FIRECRACKER_API_THREAD);
	f->hurried = true; /* the other daemon may have died amidst a request */
	calm(f);
	ask(f, "GET", "/version", "", on_again);
	*ret = &f->vm;
	return 0;
}

/* --- loading ---------------------------------------------------------------------------------------------------------------------- */

static void on_load(const struct failure *why, void *data)
{
	struct firecracker *f = data;

	f->files.devices.loading = false;
	f->files.devices.disks = NULL;
	f->vm.has_disk = f->files.devices.has_disk;
	if (why) {
		on_answer(f->files.devices.why.code ? &f->files.devices.why : why, f); /* it knows no more than an errno */
		return;
	}
	f->loaded = true;
	if (f->request == MAP || f->request == LOAD) /* else it was asked by map(), and load() finds it done */
		answered(f, NULL);
}

/* A device's name is in the state as it is. Where there is one each child gets a path of its own: the snapshot's could be bound once. */
static bool has_vsock(const struct firecracker *f)
{
	static const char name[] = "vsock";
	struct stat st;
	bool found;
	void *state;

	if (!(f->abilities & FIRECRACKER_VSOCK) || fstat(f->files.vmstate, &st) || !st.st_size)
		return false;
	state = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, f->files.vmstate, 0);
	if (state == MAP_FAILED)
		return false;
	found = memmem(state, (size_t)st.st_size, name, strlen(name));
	munmap(state, (size_t)st.st_size);
	return found;
}

static void send_load(struct firecracker *f)
{
	char socket[64], uffd[112] = "", vsock[112] = "", body[512];

	if (has_vsock(f)) {
		f->vm.vsock = FIRECRACKER_SOCKETS "/" FIRECRACKER_GUEST_VSOCK;
		snprintf(vsock, sizeof vsock, ",\"vsock_override\":{\"uds_path\":\"%s\"}", firecracker_socket_path(f->launched.theirs, FIRECRACKER_GUEST_VSOCK, socket, sizeof socket));
	}
	if (f->launched.handover >= 0)
		snprintf(uffd, sizeof uffd, ",\"uffd_uds_path\":\"%s\"", firecracker_socket_path(f->launched.theirs, FIRECRACKER_HANDOVER, socket, sizeof socket));
	snprintf(body, sizeof body, "{\"snapshot_path\":\"" FIRECRACKER_VMSTATE "\",\"mem_backend\":{\"backend_type\":\"File\",\"backend_path\":\"" FIRECRACKER_MEMORY "\"%s%s}%s%s}",
		 f->shared ? ",\"shared\":true" : "", uffd, vsock, f->vm.realtime ? ",\"clock_realtime\":true" : "");
	f->loading = f->files.devices.loading = true;
	f->files.devices.name = f->id;
	f->files.devices.disks = f->vm.disks;
	f->files.devices.tap = f->vm.tap;
	f->files.devices.caller = f->vm.caller;
	ask(f, "PUT", "/snapshot/load", body, on_load);
}

/* The userfaultfd of a memory that it has mapped. One that is loaded touches it when it is told to go on. */
static int on_mapped(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct firecracker *f = data;
	struct failure why;
	int r;

	(void)revents;
	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	r = firecracker_uffd_take(&f->vm.memory, fd, &why);
	if (f->request == MAP) {
		answered(f, r < 0 ? &why : NULL);
		if (r < 0)
			process_kill(&f->vm.process);
		return 0;
	}
	if (r < 0)
		log_warn("%s: %s", f->id, why.text);
	f->mapped = sd_event_source_disable_unref(f->mapped);
	close_fd(&f->go);
	return 0;
}

/* It connects once. */
static int on_handover(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct firecracker *f = data;

	(void)revents;
	f->go = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (f->go < 0)
		return 0;
	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	if (sd_event_add_io(f->spec.event, &f->mapped, f->go, EPOLLIN, on_mapped, f) < 0)
		process_kill(&f->vm.process);
	return 0;
}

static void map(struct vm *vm, const struct region *ram, int vmstate)
{
	struct firecracker *f = of(vm);

	begin(f, MAP);
	f->shared = !ram;
	f->files.vmstate = vmstate;
	f->opens.beside = f->vm.kept;
	f->files.memory = f->memory = fcntl(ram ? ram->fd : f->launched.ram, F_DUPFD_CLOEXEC, 3);
	if (f->memory < 0)
		fail_errno(&f->why, errno, "a descriptor for Firecracker's memory");
	if (f->memory >= 0 && f->launched.handover >= 0)
		send_load(f);
	else
		answer_later(f);
}

static void load(struct vm *vm, int vmstate)
{
	struct firecracker *f = of(vm);

	begin(f, LOAD);
	f->files.vmstate = vmstate;
	if (f->go >= 0) {
		(void)!send(f->go, "g", 1, MSG_NOSIGNAL);
		f->mapped = sd_event_source_disable_unref(f->mapped);
		close_fd(&f->go);
	}
	if (f->loaded)
		answer_later(f);
	else if (!f->loading)
		send_load(f);
}

/* --- requests --------------------------------------------------------------------------------------------------------------------- */

/* It has said so before it answers. Without one its snapshots aren't live, which is no reason not to run. */
static void on_watched(const struct failure *why, void *data)
{
	struct firecracker *f = data;

	if (why && why->code == EIO)
		log_warn("%s: its writes can't be noticed: %s", f->id, why->text);
	on_answer(why && why->code == EIO ? NULL : why, f);
}

static void on_begun(const struct failure *why, void *data)
{
	struct firecracker *f = data;
	char socket[64], body[96];

	if (why || f->launched.handover < 0) {
		on_answer(why, f);
		return;
	}
	snprintf(body, sizeof body, "{\"socket\":\"%s\"}", firecracker_socket_path(f->launched.theirs, FIRECRACKER_HANDOVER, socket, sizeof socket));
	ask(f, "PUT", "/uffd/wp", body, on_watched);
}

static void resume(struct vm *vm)
{
	struct firecracker *f = of(vm);

	begin(f, RESUME);
	if (f->unborn) { /* a kernel is loaded, which takes its time */
		ask(f, "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}", on_begun);
	} else {
		hurry(f);
		ask(f, "PATCH", "/vm", "{\"state\":\"Resumed\"}", on_answer);
	}
	f->unborn = false;
}

static void pause_(struct vm *vm)
{
	begin(of(vm), PAUSE);
	hurry(of(vm));
	ask(of(vm), "PATCH", "/vm", "{\"state\":\"Paused\"}", on_answer);
}

/* A stock one copies all memory, which is captured by us all the same. */
static void save(struct vm *vm, int fd)
{
	struct firecracker *f = of(vm);

	begin(f, SAVE);
	f->files.vmstate = fd;
	f->files.saving = true;
	if (f->abilities & FIRECRACKER_VMSTATE_ONLY)
		ask(f, "PUT", "/snapshot/create", "{\"snapshot_type\":\"VmstateOnly\",\"snapshot_path\":\"" FIRECRACKER_VMSTATE "\"}", on_answer);
	else
		ask(f, "PUT", "/snapshot/create",
		    "{\"snapshot_type\":\"Full\",\"snapshot_path\":\"" FIRECRACKER_VMSTATE "\",\"mem_file_path\":\"" FIRECRACKER_SCRATCH "\"}", on_answer);
}

/* What it is to keep it was given with its memory. */
static void keep(struct vm *vm)
{
	leash_release(&of(vm)->launched.leash);
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

const struct driver driver_firecracker = {
	.name = "firecracker",
	.automatic = true,
	.probe = firecracker_probe,
	.check = firecracker_check,
	.check_state = firecracker_check_state,
	.describe = firecracker_describe,
	.start = start,
	.map = map,
	.load = load,
	.resume = resume,
	.pause = pause_,
	.save = save,
	.keep = keep,
	.adopt = adopt,
	.type = type,
	.kill = kill_,
	.destroy = destroy,
};
