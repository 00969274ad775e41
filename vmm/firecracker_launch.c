/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/firecracker_launch.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "vmm/firecracker_files.h"
#include "vmm/sockets.h"
#include "vmm/vm_process.h"

#define OPEN_FILES 1024 /* it puts a descriptor at the highest number */
#define ID_MAX 64
#define REALTIME_USEC 1000000 /* far more than an answer takes */

char *firecracker_socket_path(int sockets, const char *name, char *buf, size_t n)
{
	snprintf(buf, n, "/proc/self/fd/%d/%s", sockets, name);
	return buf;
}

/* It has to make its socket itself, in a directory of its own; one that is there already would end it. */
static int open_sockets(struct firecracker_launched *l, const struct vm_spec *spec, struct failure *why)
{
	if (mkdirat(spec->dir, FIRECRACKER_SOCKETS, 0700) && errno != EEXIST)
		return fail_errno(why, errno, "a directory for Firecracker's sockets");
	l->sockets = openat(spec->dir, FIRECRACKER_SOCKETS, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (l->sockets < 0)
		return fail_errno(why, errno, "the directory of Firecracker's sockets");
	l->theirs = l->sockets;
	if (unlinkat(l->sockets, FIRECRACKER_API, 0) && errno != ENOENT)
		return fail_errno(why, errno, "remove the old socket " FIRECRACKER_API);
	if (spec->drop && fchownat(l->sockets, "", spec->uid, spec->gid, AT_EMPTY_PATH))
		return fail_errno(why, errno, "give Firecracker its directory");
	return 0;
}

int firecracker_listen(struct firecracker_launched *l, const struct vm_spec *spec, struct failure *why)
{
	l->handover = socket_listen_at(l->sockets, FIRECRACKER_HANDOVER, why);
	if (l->handover < 0)
		return l->handover;
	if (spec->drop && fchownat(l->sockets, FIRECRACKER_HANDOVER, spec->uid, spec->gid, AT_SYMLINK_NOFOLLOW))
		return fail_errno(why, errno, "give Firecracker its socket");
	return 0;
}

static int watch_sockets(struct firecracker_launched *l, struct failure *why)
{
	char path[32];

	l->created = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (l->created < 0)
		return fail_errno(why, errno, "watch for Firecracker's socket");
	snprintf(path, sizeof path, "/proc/self/fd/%d", l->sockets);
	return inotify_add_watch(l->created, path, IN_CREATE) < 0 ? fail_errno(why, errno, "watch for Firecracker's socket") : 0;
}

static int keep(int *ret, int fd, struct failure *why)
{
	*ret = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return *ret < 0 ? fail_errno(why, errno, "a descriptor for Firecracker") : 0;
}

/* It makes its stdin and stdout nonblocking, and with them whoever shares their open file; and heeds no stdin but a terminal or a pipe. */
static int open_streams(int streams[2], struct firecracker_launched *l, const struct vm_spec *spec, struct failure *why)
{
	char path[32];
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		return fail_errno(why, errno, "a pipe for the console");
	streams[0] = ends[0];
	l->console = ends[1];
	snprintf(path, sizeof path, "/proc/self/fd/%d", spec->console);
	streams[1] = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY);
	return streams[1] < 0 ? fail_errno(why, errno, "open the console's record") : 0;
}

static int open_all(struct firecracker_launched *l, int streams[2], const struct vm_spec *spec, struct failure *why)
{
	int r = open_sockets(l, spec, why);

	if (r == 0 && (spec->program->abilities & (spec->kernel < 0 ? FIRECRACKER_UFFD : FIRECRACKER_WP)))
		r = firecracker_listen(l, spec, why);
	if (r == 0)
		r = watch_sockets(l, why);
	if (r == 0 && (r = leash_make(&l->leash)) < 0)
		fail_errno(why, -r, "a socket for Firecracker");
	if (r == 0)
		r = keep(&l->ram, spec->ram->fd, why);
	if (r == 0)
		r = keep(&l->log, spec->log, why);
	return r < 0 ? r : open_streams(streams, l, spec, why);
}

/* Firecracker takes letters, digits and hyphens. */
static void make_id(char ret[ID_MAX + 1], const char *id)
{
	size_t n = 0;

	for (; id[n] && n < ID_MAX; n++)
		ret[n] = isalnum((unsigned char)id[n]) ? id[n] : '-';
	ret[n] = '\0';
}

static int hold(struct firecracker_launched *l, struct failure *why)
{
	int r = leash_hold(&l->leash, l->process.pid);

	if (r == 0)
		return 0;
	process_end(&l->process);
	return fail_errno(why, -r, "have Firecracker end with the daemon");
}

/* It makes its sockets itself. What else it opens it is given, but for devices, by a daemon without privilege. */
static int confine(struct confinement *ret, const struct firecracker_launched *l, const struct vm_spec *spec, struct failure *why)
{
	unsigned int device = spec->drop ? 0 : ALLOW_READ | ALLOW_WRITE | ALLOW_DEVICE;

	return confinement_make(ret,
				(const struct allow[]){
				     { spec->program->path, -1, ALLOW_READ | ALLOW_EXECUTE },
				     { NULL, l->sockets, ALLOW_SOCKETS },
				     { "/dev/null", -1, ALLOW_READ | ALLOW_WRITE },
				     { "/dev/kvm", -1, device },
				     { "/dev/userfaultfd", -1, device },
			     },
			     5, why);
}

static int spawn(struct firecracker_launched *l, const int streams[2], const struct vm_spec *spec, struct failure *why)
{
	char api[64], id[ID_MAX + 1];
	const char *argv[] = { spec->program->path, "--api-sock", api, "--id", id, "--log-path", FIRECRACKER_LOG, "--level", "Warn", NULL };
	const char *envp[] = { "TZ=UTC0", NULL }; /* else it looks for the time zone's file when it first logs */
	AUTO_CONFINEMENT struct confinement files = CONFINEMENT_NONE;
	const int fds[] = { l->sockets, l->leash.theirs, l->console }; /* the console's writing end, too: without one it would read the end when this daemon dies */
	struct process_spec p = vm_process(spec, &files, OPEN_FILES);
	int r = confine(&files, l, spec, why);

	if (r < 0)
		return r;
	p.path = spec->program->path;
	p.argv = (char *const *)(uintptr_t)argv;
	p.envp = (char *const *)(uintptr_t)envp;
	p.fds = fds;
	p.fd_count = ARRAY_LEN(fds);
	p.streams = streams;
	p.slice = FIRECRACKER_SLICE;
	p.limits[PROCESS_LIMITS - 1] = (struct process_limit){ RLIMIT_RTTIME, REALTIME_USEC };
	p.ret_opens = &l->opens;
	firecracker_socket_path(l->sockets, FIRECRACKER_API, api, sizeof api);
	make_id(id, spec->id);
	r = process_spawn(&l->process, &p, why);
	if (r == 0)
		return hold(l, why);
	if (r != -ENOENT && r != -EACCES && r != -ENOEXEC)
		return r;
	if (why)
		why->code = ENODEV;
	fail_within(why, "Firecracker can't be run");
	return -ENODEV;
}

int firecracker_launch(struct firecracker_launched *ret, const struct vm_spec *spec, struct failure *why)
{
	int streams[2] = { -1, -1 };
	int r;

	*ret = FIRECRACKER_LAUNCHED_NONE;
	last_words_init(&ret->words, spec->log);
	r = open_all(ret, streams, spec, why);
	if (r == 0)
		r = spawn(ret, streams, spec, why);
	close_fd(&streams[0]);
	close_fd(&streams[1]);
	return r;
}

void firecracker_launched_finish(struct firecracker_launched *l)
{
	last_words_finish(&l->words);
	close_fd(&l->sockets);
	close_fd(&l->created);
	close_fd(&l->opens);
	close_fd(&l->console);
	close_fd(&l->handover);
	leash_release(&l->leash);
	close_fd(&l->ram);
	close_fd(&l->log);
}
