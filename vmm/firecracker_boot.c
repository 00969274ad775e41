/* SPDX-License-Identifier: Apache-2.0
 *
 * All of it on one worker, with a loop of its own. */
#include "vmm/firecracker_boot.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "vmm/firecracker_api.h"
#include "vmm/firecracker_files.h"
#include "vmm/firecracker_launch.h"
#include "vmm/memory/copy.h"
#include "vmm/memory/memory_source.h"
#include "vmm/opens.h"
#include "vmm/sockets.h"

#define LOOK_USEC 20000 /* how often it looks whether it was called off */
#define GRACE_LOOKS 100 /* between the end of the control socket and that of the process */
#define RETRY_USEC 1000 /* it binds its socket before it listens */

struct boot {
	const struct vm_spec *spec;
	const atomic_bool *cancelled;
	sd_event *event;
	struct firecracker_launched launched;
	struct firecracker_files files;
	struct opens opens;
	struct firecracker_api *api;
	sd_event_source *created;
	bool bound, ended, answered;
	siginfo_t how;
	struct failure *why; /* of the answer */
};

static void on_exited(struct process *p, const siginfo_t *how, void *data)
{
	struct boot *b = data;

	(void)p;
	b->ended = true;
	b->how = *how;
}

static int on_created(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct boot *b = data;

	(void)fd;
	(void)revents;
	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	b->bound = true;
	return 0;
}

static void on_answer(const struct failure *why, void *data)
{
	struct boot *b = data;

	b->answered = true;
	if (why)
		*b->why = *why;
}

static int explain_end(const struct boot *b, struct failure *why)
{
	char text[96], line[256];

	last_words_read(&b->launched.words, line, sizeof line);
	return fail(why, EIO, "the Firecracker that boots %s%s%s", process_exit_text(&b->how, text, sizeof text), *line ? ": " : "", line);
}

/* A broken connection is most often the process's end, which says more. */
static int explain_break(struct boot *b, struct failure *why)
{
	for (int i = 0; i < GRACE_LOOKS && !b->ended && !atomic_load(b->cancelled); i++)
		sd_event_run(b->event, LOOK_USEC);
	return b->ended ? explain_end(b, why) : -(why->code = EIO);
}

/* Turns the loop until *until. */
static int turn(struct boot *b, const bool *until, uint64_t usec, struct failure *why)
{
	while (!*until && !b->ended && !atomic_load(b->cancelled))
		if (sd_event_run(b->event, usec) < 0)
			return fail(why, EIO, "waiting for Firecracker");
	if (atomic_load(b->cancelled))
		return fail(why, ECANCELED, "the boot was called off");
	return *until ? 0 : explain_end(b, why);
}

static int ask(struct boot *b, const char *method, const char *target, const char *body, struct failure *why)
{
	int r;

	b->answered = false;
	b->why = why;
	why->code = 0;
	r = firecracker_api_send(b->api, method, target, body, on_answer, b);
	if (r < 0)
		return fail_errno(why, -r, "ask Firecracker for %s", target);
	r = turn(b, &b->answered, LOOK_USEC, why);
	if (r == 0 && why->code == ECONNRESET)
		return explain_break(b, why);
	return r < 0 ? r : -why->code;
}

static int wait_for_socket(struct boot *b, struct failure *why)
{
	bool listens = false;
	int r = turn(b, &b->bound, LOOK_USEC, why);

	while (r == 0 && !listens) {
		AUTO_CLOSE int fd = socket_connect_at(b->launched.sockets, FIRECRACKER_API, NULL);

		listens = fd >= 0;
		if (!listens)
			r = sd_event_run(b->event, RETRY_USEC) < 0 ? fail(why, EIO, "waiting for Firecracker") : turn(b, &b->bound, LOOK_USEC, why);
	}
	return r;
}

static int ask_machine(struct boot *b, struct failure *why)
{
	const struct recipe *r = b->spec->recipe;
	char body[128];

	snprintf(body, sizeof body, "{\"vcpu_count\":%u,\"mem_size_mib\":%llu}", r->vcpus, (unsigned long long)(r->ram_size >> 20));
	return ask(b, "PUT", "/machine-config", body, why);
}

static int ask_kernel(struct boot *b, struct failure *why)
{
	cJSON *json = cJSON_CreateObject();
	char *body = NULL;
	int r;

	if (cJSON_AddStringToObject(json, "kernel_image_path", FIRECRACKER_KERNEL) && cJSON_AddStringToObject(json, "boot_args", b->spec->args) &&
	    (b->spec->initrd < 0 || cJSON_AddStringToObject(json, "initrd_path", FIRECRACKER_INITRD)))
		body = cJSON_PrintUnformatted(json);
	r = body ? ask(b, "PUT", "/boot-source", body, why) : fail(why, ENOMEM, "no memory to tell Firecracker its kernel");
	cJSON_free(body);
	cJSON_Delete(json);
	return r;
}

static int converse(struct boot *b, struct failure *why)
{
	int r = wait_for_socket(b, why);

	if (r == 0)
		r = ask_machine(b, why);
	if (r == 0)
		r = ask_kernel(b, why);
	if (r == 0)
		r = ask(b, "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}", why);
	if (r == 0)
		r = ask(b, "PATCH", "/vm", "{\"state\":\"Paused\"}", why);
	b->files.saving = true;
	return r < 0 ? r : ask(b, "PUT", "/snapshot/create", "{\"snapshot_path\":\"" FIRECRACKER_VMSTATE "\",\"mem_file_path\":\"" FIRECRACKER_SCRATCH "\"}", why);
}

static int begin(struct boot *b, struct failure *why)
{
	char path[64];
	int r = sd_event_new(&b->event);

	if (r >= 0)
		r = process_watch(&b->launched.process, b->event, on_exited, b);
	if (r < 0)
		return fail_errno(why, -r, "watch Firecracker");
	r = opens_init(&b->opens, b->event, steal_fd(&b->launched.opens));
	if (r == 0)
		r = sd_event_add_io(b->event, &b->created, b->launched.created, EPOLLIN, on_created, b);
	if (r < 0)
		return fail_errno(why, -r, "connect to Firecracker");
	return firecracker_api_create(&b->api, b->event, firecracker_socket_path(b->launched.sockets, FIRECRACKER_API, path, sizeof path), why);
}

static void end(struct boot *b)
{
	struct process *p = &b->launched.process;

	firecracker_api_destroy(b->api);
	opens_finish(&b->opens);
	sd_event_source_disable_unref(b->created);
	if (p->pid && !b->ended) {
		process_kill(p);
		waitid(P_PID, (id_t)p->pid, &(siginfo_t){ 0 }, WEXITED);
	}
	process_finish(p);
	sd_event_unref(b->event);
	firecracker_launched_finish(&b->launched);
}

static int run(const struct vm_spec *spec, const struct firecracker_files *files, const atomic_bool *cancelled, struct failure *why)
{
	struct boot b = { .spec = spec, .cancelled = cancelled, .launched = FIRECRACKER_LAUNCHED_NONE, .files = *files };
	int r;

	b.opens = (struct opens){ .fd = -1, .answer = firecracker_files_answer, .data = &b.files };
	r = firecracker_launch(&b.launched, spec, why);
	b.files.log = b.launched.log;
	if (r == 0)
		r = begin(&b, why);
	if (r == 0)
		r = converse(&b, why);
	end(&b);
	return r;
}

/* Firecracker wrote all of it: what is zero becomes a hole again. */
static int take_memory(const struct vm_spec *spec, int scratch, const atomic_bool *cancelled, struct failure *why)
{
	struct memory_source *source;
	int r = memory_source_create_file(&source, scratch, spec->ram->size, NULL, why);

	if (r < 0)
		return r;
	r = memory_fill(spec->ram->fd, source, cancelled, NULL, why);
	memory_source_unref(source);
	return r;
}

int firecracker_boot(int *ret, const struct vm_spec *spec, const atomic_bool *cancelled, struct failure *why)
{
	AUTO_CLOSE int scratch = memfd_create("forkfs:scratch", MFD_CLOEXEC), state = memfd_create("vmstate", MFD_CLOEXEC);
	struct firecracker_files files = FIRECRACKER_FILES_NONE;
	int r;

	if (scratch < 0 || state < 0)
		return fail_errno(why, errno, "a memfd to boot with");
	files.kernel = spec->kernel;
	files.initrd = spec->initrd;
	files.scratch = scratch;
	files.vmstate = state;
	files.unprivileged = spec->drop;
	r = run(spec, &files, cancelled, why);
	if (r == 0)
		r = take_memory(spec, scratch, cancelled, why);
	if (r == 0)
		*ret = steal_fd(&state);
	return r;
}
