/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/firecracker_probe.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "vmm/base/io.h"
#include "vmm/firecracker_api.h"
#include "vmm/firecracker_launch.h"
#include "vmm/firecracker_state.h"
#include "vmm/last_words.h"
#include "vmm/program_output.h"

#define DEFAULT_PATH "firecracker"
#define ANSWER_MS 5000
#define RETRY_MS 2
#ifndef USERFAULTFD_IOC_NEW /* linux/userfaultfd.h since 6.1 */
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#define PIECE (3ull << 30) /* RAM that it maps in one piece */

/* Requests that no Firecracker carries out, for something is missing in them: one that can says what, another doesn't know a field, a variant or the way, and may name all that it knows. */
#define MISSING(field) "missing field `" field "`"
static const struct question {
	unsigned int ability;
	const char *target, *body, *known; /* what is in the answer of one that can */
	const char *name; /* of what a patch adds */
} questions[] = {
	{ FIRECRACKER_SHARED, "/snapshot/load", "{\"mem_backend\":{\"backend_type\":\"File\",\"backend_path\":\"x\",\"shared\":true}}", MISSING("snapshot_path"), "shared" },
	{ FIRECRACKER_VMSTATE_ONLY, "/snapshot/create", "{\"snapshot_type\":\"VmstateOnly\"}", MISSING("snapshot_path"), "VmstateOnly" },
	{ FIRECRACKER_UFFD, "/snapshot/load", "{\"mem_backend\":{\"backend_type\":\"File\",\"backend_path\":\"x\",\"uffd_uds_path\":\"x\"}}", MISSING("snapshot_path"),
	  "uffd_uds_path" },
	{ FIRECRACKER_WP, "/uffd/wp", "{}", MISSING("socket"), "/uffd/wp" },
	{ FIRECRACKER_BOOT, "/machine-config", "{\"memory_path\":\"x\"}", MISSING("vcpu_count"), "memory_path" },
	{ FIRECRACKER_CLOCK, "/snapshot/load", "{\"mem_backend\":{\"backend_type\":\"File\",\"backend_path\":\"x\"},\"clock_realtime\":true}", MISSING("snapshot_path"), NULL },
	{ FIRECRACKER_VSOCK, "/snapshot/load", "{\"mem_backend\":{\"backend_type\":\"File\",\"backend_path\":\"x\"},\"vsock_override\":{\"uds_path\":\"x\"}}", MISSING("snapshot_path"), NULL },
};

static int put_questions(const char *socket, unsigned int *ret, struct failure *why)
{
	char answer[1024];

	for (size_t i = 0; i < ARRAY_LEN(questions); i++) {
		const struct question *q = &questions[i];
		int status = firecracker_api_ask(socket, "PUT", q->target, q->body, answer, sizeof answer, ANSWER_MS);

		if (status < 0)
			return fail_errno(why, -status, "it can't be asked what it can do");
		if (strstr(answer, q->known))
			*ret |= q->ability;
	}
	return 0;
}

/* Until it answers to its socket. It may have ended when that fails. */
static int wait_for_socket(int created, const char *socket, const struct process *p, struct failure *why)
{
	struct pollfd pollers[] = { { created, POLLIN, 0 }, { p->pidfd, POLLIN, 0 } };
	char answer[16], scrap[4096];

	if (poll(pollers, ARRAY_LEN(pollers), ANSWER_MS) <= 0)
		return fail(why, ETIMEDOUT, "it makes no socket");
	if (pollers[0].revents)
		(void)!read(created, scrap, sizeof scrap);
	for (int i = 0; i < ANSWER_MS / RETRY_MS && !pollers[1].revents; i++) {
		int status = firecracker_api_ask(socket, "GET", "/version", "", answer, sizeof answer, ANSWER_MS);

		if (status >= 0)
			return 0;
		if (status == -ETIMEDOUT)
			return fail(why, ETIMEDOUT, "it doesn't answer");
		poll(&pollers[1], 1, RETRY_MS);
	}
	return fail(why, EIO, "it doesn't listen");
}

/* A failure's reason is the process's end, where that came first. */
static void end_process(struct process *p, const struct last_words *words, struct failure *why)
{
	struct pollfd ended = { p->pidfd, POLLIN, 0 };
	char text[96], line[256];
	siginfo_t how = { 0 };
	bool by_itself = poll(&ended, 1, why->code == EIO || why->code == ECONNRESET ? RETRY_MS * 10 : 0) > 0;

	process_kill(p);
	waitid(P_PID, (id_t)p->pid, &how, WEXITED);
	process_finish(p);
	if (!by_itself || !why->code)
		return;
	last_words_read(words, line, sizeof line);
	fail(why, EIO, "it %s%s%s", process_exit_text(&how, text, sizeof text), *line ? ": " : "", line);
}

/* `socket` is in the directory that `created` watches. */
static int ask_process(const char *path, const char *socket, int created, unsigned int *ret, struct failure *why)
{
	const char *argv[] = { path, "--api-sock", socket, NULL };
	char *envp[] = { NULL };
	AUTO_CLOSE int out = memfd_create("forkfs:probe", MFD_CLOEXEC);
	struct process_spec spec = { .path = path, .argv = (char *const *)(uintptr_t)argv, .envp = envp, .output = out, .netns = -1, .limits = { { RLIMIT_NOFILE, 1024 } } };
	struct process p = { .pidfd = -1 };
	struct last_words words;
	int r = process_spawn(&p, &spec, why);

	if (r < 0)
		return r;
	last_words_init(&words, out);
	words.from = 0;
	r = wait_for_socket(created, socket, &p, why);
	if (r == 0)
		r = put_questions(socket, ret, why);
	end_process(&p, &words, why);
	last_words_finish(&words);
	return r < 0 ? -why->code : 0;
}

static int find_abilities(const char *path, unsigned int *ret, struct failure *why)
{
	char dir[] = "/tmp/forkfs-probe.XXXXXX", socket[sizeof dir + 8];
	AUTO_CLOSE int created = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	int r;

	if (created < 0 || !mkdtemp(dir))
		return fail_errno(why, errno, "a directory for its socket");
	snprintf(socket, sizeof socket, "%s/api", dir);
	if (inotify_add_watch(created, dir, IN_CREATE) < 0)
		r = fail_errno(why, errno, "watch for its socket");
	else
		r = ask_process(path, socket, created, ret, why);
	unlink(socket);
	rmdir(dir);
	return r;
}

static void tell_abilities(unsigned int abilities, char *ret, size_t n)
{
	size_t len = 0;

	for (size_t i = 0; i < ARRAY_LEN(questions) && len < n; i++)
		if (questions[i].name && !(abilities & questions[i].ability))
			len += (size_t)snprintf(ret + len, n - len, "%s%s", len ? ", " : "it lacks ", questions[i].name);
	if (!len)
		snprintf(ret, n, "it shares memory");
	else if (len < n)
		snprintf(ret + len, n - len, " (docs/firecracker.md)");
}

static int look(const char *path, const struct kvm_facts *kvm, struct driver_facts *ret)
{
	static const char name[] = "Firecracker v";
	struct firecracker_version state;
	char out[1024];
	int r = program_output(path, "--version", NULL, out, sizeof out, &ret->why);

	if (r == -ENOENT)
		return fail(&ret->why, ENODEV, "no Firecracker at %s: write its path to config/firecracker", path);
	if (r < 0)
		return r;
	if (strncmp(out, name, strlen(name)))
		return fail(&ret->why, ENODEV, "%s doesn't say that it is Firecracker", path);
	snprintf(ret->version, sizeof ret->version, "%.*s", (int)strcspn(out + strlen(name), " \n"), out + strlen(name));
	r = program_output(path, "--snapshot-version", NULL, out, sizeof out, &ret->why);
	if (r < 0)
		return r;
	if (firecracker_version_parse(&state, out) < 0)
		return fail(&ret->why, ENODEV, "%s doesn't tell which snapshots it reads", path);
	ret->program.state_major = state.major;
	ret->program.state_minor = state.minor;
	r = find_abilities(path, &ret->program.abilities, &ret->why);
	if (r < 0)
		return fail_within(&ret->why, "%s", path);
	if (kvm->mips <= 0)
		return fail(&ret->why, ENODEV, "Firecracker needs KVM, which doesn't run guests here: %s", kvm->detail);
	return 0;
}

/* Whether one can be made in there: by the device, which a daemon that is root opens for it, or, where there is none, by the system call as somebody without privilege. */
static bool has_userfaultfd(void)
{
	AUTO_CLOSE int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), made = -1, sysctl = -1;
	char allowed = '0';

	if (device >= 0)
		made = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC);
	if (device >= 0 || errno != ENOENT)
		return made >= 0;
	sysctl = open("/proc/sys/vm/unprivileged_userfaultfd", O_RDONLY | O_CLOEXEC);
	return sysctl < 0 || (read(sysctl, &allowed, 1) == 1 && allowed == '1'); /* before Linux 5.2 everybody may */
}

void firecracker_probe(const char *path, const struct kvm_facts *kvm, struct driver_facts *ret)
{
	if (!path || !*path)
		path = DEFAULT_PATH;
	*ret = (struct driver_facts){ .accel_kvm = kvm->mips > 0, .avoid = !kvm->usable };
	snprintf(ret->program.path, sizeof ret->program.path, "%s", path);
	ret->usable = look(path, kvm, ret) == 0;
	if (ret->why.code != EIO && ret->why.code != ETIMEDOUT) /* it is one, but not of use now */
		ret->why.code = ret->usable ? 0 : ENODEV;
	tell_abilities(ret->program.abilities, ret->detail, sizeof ret->detail);
	if (!has_userfaultfd())
		ret->program.abilities &= ~(FIRECRACKER_UFFD | FIRECRACKER_WP);
	ret->places = ret->program.abilities & FIRECRACKER_UFFD;
	ret->sets_clock = ret->program.abilities & FIRECRACKER_CLOCK;
	ret->boots = ret->program.abilities & FIRECRACKER_BOOT;
}

int firecracker_check(const struct recipe *r, enum region_kind kind, const struct driver_facts *facts, struct failure *why)
{
	if (kind == REGION_SHARED && !(facts->program.abilities & FIRECRACKER_SHARED))
		return fail(why, EOPNOTSUPP,
			    "%s (Firecracker %s) can't map its guest's memory shared: it lacks mem_backend.shared. Build it with patches/firecracker (docs/firecracker.md), or "
			    "write memfd-private to config/memory_backend", facts->program.path, facts->version);
	if (kind == REGION_FILE && r->ram_size > PIECE)
		return fail(why, EOPNOTSUPP, "Firecracker maps more than 3 GiB of RAM in two pieces, which can only be shared: write memfd-shared to config/memory_backend");
	if (!r->ram_size || r->ram_size % (1 << 20))
		return fail(why, EINVAL, "%llu bytes of RAM are no multiple of 1 MiB", (unsigned long long)r->ram_size);
	return 0;
}

int firecracker_check_state(const struct recipe *recipe, int vmstate, const struct driver_facts *facts, struct failure *why)
{
	const struct driver_program *p = &facts->program;
	struct firecracker_state state;
	AUTO_FREE char *data = NULL;
	size_t n;
	int r = read_file(vmstate, FIRECRACKER_STATE_MAX, &data, &n);

	if (r == -EFBIG)
		return fail(why, EINVAL, "%s: is larger than %u bytes: Firecracker reads no more", recipe->vmstate.file, FIRECRACKER_STATE_MAX);
	if (r < 0)
		return fail_errno(why, -r, "%s", recipe->vmstate.file);
	r = firecracker_state_parse(&state, data, n, why);
	if (r < 0)
		return fail_within(why, "%s", recipe->vmstate.file);
	if (state.ram_size != recipe->ram_size)
		return fail(why, EINVAL, "%s: is of a guest with %llu bytes of RAM, snapshot.json says %llu", recipe->vmstate.file, (unsigned long long)state.ram_size,
			    (unsigned long long)recipe->ram_size);
	if (state.version.major == p->state_major && state.version.minor <= p->state_minor)
		return 0;
	return fail(why, EOPNOTSUPP, "%s: has format %u.%u, %s (Firecracker %s) reads %u.0 to %u.%u: use the Firecracker that wrote it", recipe->vmstate.file, state.version.major,
		    state.version.minor, p->path, facts->version, p->state_major, p->state_major, p->state_minor);
}

int firecracker_describe(struct recipe *recipe, const struct driver_facts *facts, struct failure *why)
{
	if (!facts->boots)
		return fail(why, EOPNOTSUPP,
			    "%s (Firecracker %s) boots its guests into memory that nobody else can have: it lacks machine-config.memory_path. Build it with patches/firecracker "
			    "(docs/firecracker.md), or boot with QEMU (config/vmm)", facts->program.path, facts->version);
	if (strcmp(recipe->accel, "kvm"))
		return fail(why, EOPNOTSUPP, "Firecracker has no accel but kvm, config/accel says %s", recipe->accel);
	snprintf(recipe->machine, sizeof recipe->machine, "firecracker");
	snprintf(recipe->cpu, sizeof recipe->cpu, "any");
	recipe->device_count = 1;
	recipe->devices[0] = (struct recipe_device){ "serial", "console" };
	return 0;
}
