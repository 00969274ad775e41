/* SPDX-License-Identifier: Apache-2.0
 *
 * Firecracker as a VMM. What it is to open it names, and is given a descriptor when it does (opens.h): so memory that was made after its start can be its guest's, and it
 * needs no right to any file. A patched one hands over a userfaultfd while it loads, and goes on when it is told to. All on the loop. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "vmm/base/log.h"
#include "vmm/firecracker_private.h"
#include "vmm/firecracker_probe.h"
#include "vmm/firecracker_uffd.h"
#include "vmm/scheduling.h"

#define GRACE_USEC 2000000 /* between the end of the control socket and that of the process */

/* Else an answer waits behind the guest that has just been woken, until the next tick: 4 ms. */
static void hurry(struct firecracker *f)
{
	if (!f->spec.drop)
		return;
	thread_hurry(f->vm.process.pid, f->vm.process.pid);
	thread_hurry(f->vm.process.pid, f->api_thread);
	f->hurried = true;
}

void firecracker_calm(struct firecracker *f)
{
	int nice = getpriority(PRIO_PROCESS, 0);

	if (!f->hurried)
		return;
	thread_calm(f->vm.process.pid, f->vm.process.pid, nice, FIRECRACKER_SLICE);
	thread_calm(f->vm.process.pid, f->api_thread, nice, FIRECRACKER_SLICE);
	f->hurried = false;
}

void firecracker_answered(struct firecracker *f, const struct failure *why)
{
	enum request was = f->request;

	firecracker_calm(f);
	f->request = NOTHING;
	if (was == LOAD || was == SAVE)
		f->files.vmstate = -1;
	f->files.saving = false;
	if (was != NOTHING)
		f->vm.watcher->answered(&f->vm, why, f->vm.data);
}

int firecracker_on_deferred(sd_event_source *source, void *data)
{
	struct firecracker *f = data;
	struct failure why = f->why;

	(void)source;
	f->why.code = 0;
	firecracker_answered(f, why.code ? &why : NULL);
	return 0;
}

/* With f->why, or success where its code is 0. */
void firecracker_answer_later(struct firecracker *f)
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

int firecracker_after(struct firecracker *f, uint64_t usec, sd_event_time_handler_t what)
{
	f->timer = sd_event_source_disable_unref(f->timer);
	return sd_event_add_time_relative(f->spec.event, &f->timer, CLOCK_MONOTONIC, usec, 1, what, f);
}

/* A broken connection is most often the end of the process, which says more and answers. */
void firecracker_on_answer(const struct failure *why, void *data)
{
	struct firecracker *f = data;

	if (!why || (why->code != ECONNRESET && why->code != EPROTO)) {
		firecracker_answered(f, why);
		return;
	}
	f->why = *why;
	f->why.code = EIO;
	if (why->code == EPROTO || firecracker_after(f, GRACE_USEC, on_grace_over) < 0)
		process_kill(&f->vm.process);
}

void firecracker_ask(struct firecracker *f, const char *method, const char *target, const char *body, firecracker_answer to)
{
	int r;

	f->warming = sd_event_source_disable_unref(f->warming);
	r = firecracker_api_send(f->api, method, target, body, to, f);
	if (r == 0)
		return;
	fail_errno(&f->why, -r, "ask Firecracker for %s", target);
	firecracker_answer_later(f);
}

/* --- loading ---------------------------------------------------------------------------------------------------------------------- */

static void on_load(const struct failure *why, void *data)
{
	struct firecracker *f = data;

	f->files.devices.loading = false;
	f->files.devices.disks = NULL;
	f->vm.has_disk = f->files.devices.has_disk;
	if (why) {
		firecracker_on_answer(f->files.devices.why.code ? &f->files.devices.why : why, f); /* it knows no more than an errno */
		return;
	}
	f->loaded = true;
	if (f->request == MAP || f->request == LOAD) /* else it was asked by map(), and load() finds it done */
		firecracker_answered(f, NULL);
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
	firecracker_ask(f, "PUT", "/snapshot/load", body, on_load);
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
		firecracker_answered(f, r < 0 ? &why : NULL);
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
int firecracker_on_handover(sd_event_source *source, int fd, uint32_t revents, void *data)
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
		firecracker_answer_later(f);
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
		firecracker_answer_later(f);
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
	firecracker_on_answer(why && why->code == EIO ? NULL : why, f);
}

void firecracker_on_begun(const struct failure *why, void *data)
{
	struct firecracker *f = data;
	char socket[64], body[96];

	if (why || f->launched.handover < 0) {
		firecracker_on_answer(why, f);
		return;
	}
	snprintf(body, sizeof body, "{\"socket\":\"%s\"}", firecracker_socket_path(f->launched.theirs, FIRECRACKER_HANDOVER, socket, sizeof socket));
	firecracker_ask(f, "PUT", "/uffd/wp", body, on_watched);
}

static void resume(struct vm *vm)
{
	struct firecracker *f = of(vm);

	begin(f, RESUME);
	if (f->unborn) { /* a kernel is loaded, which takes its time */
		firecracker_ask(f, "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}", firecracker_on_begun);
	} else {
		hurry(f);
		firecracker_ask(f, "PATCH", "/vm", "{\"state\":\"Resumed\"}", firecracker_on_answer);
	}
	f->unborn = false;
}

static void pause_(struct vm *vm)
{
	begin(of(vm), PAUSE);
	hurry(of(vm));
	firecracker_ask(of(vm), "PATCH", "/vm", "{\"state\":\"Paused\"}", firecracker_on_answer);
}

/* A stock one copies all memory, which is captured by us all the same. */
static void save(struct vm *vm, int fd)
{
	struct firecracker *f = of(vm);

	begin(f, SAVE);
	f->files.vmstate = fd;
	f->files.saving = true;
	if (f->abilities & FIRECRACKER_VMSTATE_ONLY)
		firecracker_ask(f, "PUT", "/snapshot/create", "{\"snapshot_type\":\"VmstateOnly\",\"snapshot_path\":\"" FIRECRACKER_VMSTATE "\"}", firecracker_on_answer);
	else
		firecracker_ask(f, "PUT", "/snapshot/create",
		    "{\"snapshot_type\":\"Full\",\"snapshot_path\":\"" FIRECRACKER_VMSTATE "\",\"mem_file_path\":\"" FIRECRACKER_SCRATCH "\"}", firecracker_on_answer);
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
	.start = firecracker_start,
	.map = map,
	.load = load,
	.resume = resume,
	.pause = pause_,
	.save = save,
	.keep = keep,
	.adopt = firecracker_adopt,
	.type = type,
	.kill = kill_,
	.destroy = firecracker_destroy,
};
