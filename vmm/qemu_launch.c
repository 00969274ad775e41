/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu_launch.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <systemd/sd-id128.h>

#include "vmm/handover.h"
#include "vmm/helper.h"
#include "vmm/qemu_args.h"
#include "vmm/sockets.h"
#include "vmm/vm_process.h"

#define OPEN_FILES 512
#define STATE_BYTES (1 << 20) /* of a pipe: what most device states fit in at once */

/* What is opened for one launch; closed again when QEMU has it. */
struct bundle {
	int control, console;               /* listening */
	int control_client, console_client; /* connected */
	int record, preload, kvm, uffd;
	int state, incoming;                /* a pipe */
	int handover, handover_ours;
};

static void bundle_close(struct bundle *b)
{
	close_fd(&b->control);
	close_fd(&b->console);
	close_fd(&b->control_client);
	close_fd(&b->console_client);
	close_fd(&b->record);
	close_fd(&b->handover);
	close_fd(&b->handover_ours);
	close_fd(&b->preload);
	close_fd(&b->kvm);
	close_fd(&b->uffd);
	close_fd(&b->state);
	close_fd(&b->incoming);
}

/* Who connects before QEMU runs waits in the queue: nothing has to be polled for. */
static int open_sockets(struct bundle *b, int dir, struct failure *why)
{
	if ((b->control = socket_listen_at(dir, "qmp", why)) < 0)
		return b->control;
	if ((b->console = socket_listen_at(dir, "console", why)) < 0)
		return b->console;
	if ((b->control_client = socket_connect_at(dir, "qmp", why)) < 0)
		return b->control_client;
	b->console_client = socket_connect_at(dir, "console", why);
	return b->console_client < 0 ? b->console_client : 0;
}

/* QEMU takes from its set of descriptors only one of exactly the access that it wants. */
static int open_record(struct bundle *b, int console, struct failure *why)
{
	char path[32];

	snprintf(path, sizeof path, "/proc/self/fd/%d", console);
	b->record = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY);
	return b->record < 0 ? fail_errno(why, errno, "open the console's record") : 0;
}

static int open_kvm(struct bundle *b, struct failure *why)
{
	b->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	return b->kvm < 0 ? fail_errno(why, errno, "open /dev/kvm") : 0;
}

static int open_handover(struct bundle *b, struct failure *why)
{
	int r = handover_pair(&b->handover_ours, &b->handover);

	return r < 0 ? fail_errno(why, -r, "a socket for the memory") : 0;
}

/* Of a boot nothing is loaded. */
static int open_state(struct bundle *b, const struct vm_spec *spec, struct failure *why)
{
	int ends[2];

	if (spec->kernel >= 0)
		return 0;
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		return fail_errno(why, errno, "a pipe for the device state");
	b->incoming = ends[0];
	b->state = ends[1];
	fcntl(b->state, F_SETPIPE_SZ, STATE_BYTES);
	return 0;
}

static int bundle_open(struct bundle *b, const struct vm_spec *spec, struct failure *why)
{
	bool kvm = spec->drop && !strcmp(spec->recipe->accel, "kvm");
	int r;

	*b = (struct bundle){ -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1 };
	r = open_sockets(b, spec->dir, why);
	if (r == 0)
		r = open_record(b, spec->console, why);
	if (r == 0)
		r = open_handover(b, why);
	if (r == 0)
		r = open_state(b, spec, why);
	if (r == 0 && kvm)
		r = open_kvm(b, why);
	if (r < 0)
		return r;
	b->uffd = handover_uffd_device();
	b->preload = helper_open(HELPER_PRELOAD, why);
	return b->preload < 0 ? b->preload : 0;
}

static struct qemu_descriptors numbers(const struct bundle *b, const struct vm_spec *spec)
{
	return (struct qemu_descriptors){
		.control = b->control,
		.console = b->console,
		.record = b->record,
		.ram = spec->ram->fd,
		.handover = b->handover,
		.preload = b->preload,
		.kvm = b->kvm,
		.uffd = b->uffd,
		.incoming = b->incoming,
		.kernel = spec->kernel,
		.initrd = spec->kernel >= 0 ? spec->initrd : -1,
	};
}

/* Its program; its firmware, where that isn't below /usr but beside the program; what is loaded into it. A daemon without privilege has no descriptor of /dev/kvm that would do. */
static int confine(struct confinement *ret, const struct vm_spec *spec, int preload, struct failure *why)
{
	AUTO_FREE char *dir = strdup(spec->program->path), *share = NULL, *lib = NULL;
	char *slash = dir ? strrchr(dir, '/') : NULL;

	if (slash)
		*slash = '\0';
	if (!dir || asprintf(&share, "%s/../share/qemu", dir) < 0 || asprintf(&lib, "%s/../lib", dir) < 0)
		return fail(why, ENOMEM, "no memory to start QEMU");
	return confinement_make(ret,
				(const struct allow[]){
				     { spec->program->path, -1, ALLOW_READ | ALLOW_EXECUTE },
				     { share, -1, ALLOW_READ },
				     { lib, -1, ALLOW_READ | ALLOW_EXECUTE },
				     { NULL, preload, ALLOW_READ | ALLOW_EXECUTE },
				     { spec->drop || strcmp(spec->recipe->accel, "kvm") ? "" : "/dev/kvm", -1, ALLOW_READ | ALLOW_WRITE | ALLOW_DEVICE },
			     },
			     5, why);
}

static int spawn(struct process *ret, const struct vm_spec *spec, const struct qemu_descriptors *d, char *const *argv, char *const *envp,
		 struct failure *why)
{
	const int all[] = { d->control, d->console, d->record, d->ram, d->handover, d->preload, d->kvm, d->uffd, d->incoming, d->kernel, d->initrd };
	AUTO_CONFINEMENT struct confinement files = CONFINEMENT_NONE;
	int kept[ARRAY_LEN(all)], r = confine(&files, spec, d->preload, why);
	struct process_spec p = vm_process(spec, &files, OPEN_FILES);

	if (r < 0)
		return r;
	p.path = spec->program->path;
	p.argv = argv;
	p.envp = envp;
	p.fds = kept;
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (all[i] >= 0)
			kept[p.fd_count++] = all[i];
	r = process_spawn(ret, &p, why);
	if (r != -ENOENT && r != -EACCES && r != -ENOEXEC)
		return r;
	if (why)
		why->code = ENODEV;
	return fail_within(why, "QEMU can't be run") < 0 ? -ENODEV : 0;
}

static int build_and_spawn(struct process *ret, const struct vm_spec *spec, const struct bundle *b, const char *generation, struct failure *why)
{
	struct qemu_descriptors fds = numbers(b, spec);
	struct qemu_args args = { 0 }, env = { 0 };
	int r;

	r = qemu_args_build(&args, spec->program->path, spec->id, spec->recipe, &fds, generation, spec->args);
	if (r == 0)
		r = qemu_args_environment(&env, &fds);
	if (r < 0)
		fail_errno(why, -r, "QEMU's command line");
	else
		r = spawn(ret, spec, &fds, args.argv, env.argv, why);
	qemu_args_finish(&args);
	qemu_args_finish(&env);
	return r;
}

int qemu_launch(struct qemu_launched *ret, const struct vm_spec *spec, struct failure *why)
{
	struct qemu_launched l = { .control = -1, .console = -1, .handover = -1, .state = -1, .incoming = -1 };
	sd_id128_t id = { 0 };
	struct bundle b;
	int r;

	sd_id128_randomize(&id);
	snprintf(l.generation, sizeof l.generation, SD_ID128_UUID_FORMAT_STR, SD_ID128_FORMAT_VAL(id));
	last_words_init(&l.words, spec->log);
	r = bundle_open(&b, spec, why);
	if (r == 0)
		r = build_and_spawn(&l.process, spec, &b, l.generation, why);
	if (r == 0) {
		l.control = steal_fd(&b.control_client);
		l.console = steal_fd(&b.console_client);
		l.handover = steal_fd(&b.handover_ours);
		l.incoming = b.incoming; /* its number in there, too */
		l.state = steal_fd(&b.state);
		*ret = l;
	} else {
		last_words_finish(&l.words);
	}
	bundle_close(&b);
	return r;
}
