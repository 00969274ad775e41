/* SPDX-License-Identifier: Apache-2.0
 *
 * Preloaded into a VMM that runs without privilege, for what its command line can't say. The environment names inherited descriptors:
 *
 * FORKFS_RAM, FORKFS_HANDOVER: where the VMM has mapped the file behind the first (it opened it anew, so device and inode tell), the daemon is sent a userfaultfd over
 *     the second (handover.h), and another memory is mapped, private, when it comes that way: the VMM believes that it shares, and leaves RAM out of the state
 *     that it saves.
 * FORKFS_UFFD: /dev/userfaultfd, where the VMM has not the privilege for the system call.
 * FORKFS_KVM: what an open of /dev/kvm gives. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/handover_serve.h"

#undef mmap
#undef mmap64
#undef open
#undef open64

void *mmap(void *addr, size_t n, int prot, int flags, int fd, off_t offset);
void *mmap64(void *addr, size_t n, int prot, int flags, int fd, off64_t offset);
int open(const char *path, int flags, ...);
int open64(const char *path, int flags, ...);

static struct {
	bool ready;
	int handover, kvm, uffd; /* handover -1: none, or it is served already */
	struct stat ram;
	void *at;
	size_t size;
} given = { .handover = -1, .kvm = -1, .uffd = -1 };

static int descriptor(const char *name)
{
	const char *value = getenv(name);

	return value ? atoi(value) : -1;
}

/* The first of these calls comes before main() and before there is a second thread. */
static void look(void)
{
	int ram;

	if (given.ready || !environ)
		return;
	given.ready = true;
	given.kvm = descriptor("FORKFS_KVM");
	given.uffd = descriptor("FORKFS_UFFD");
	given.handover = descriptor("FORKFS_HANDOVER");
	ram = descriptor("FORKFS_RAM");
	if (ram < 0 || fstat(ram, &given.ram) < 0)
		given.handover = -1;
}

static bool is_ram(int fd)
{
	struct stat st;

	return fd >= 0 && given.handover >= 0 && !fstat(fd, &st) && st.st_dev == given.ram.st_dev && st.st_ino == given.ram.st_ino;
}

static void *serve(void *data)
{
	if (!handover_serve((int)(intptr_t)data, given.at, given.size))
		_exit(0);
	return NULL;
}

/* Signals are the VMM's own affair. Without the thread nothing is handed over, which the daemon sees by the closed socket. */
static void begin_to_serve(void *at, size_t size)
{
	int control = given.handover;
	sigset_t all, old;
	pthread_t thread;

	given.at = at;
	given.size = size;
	given.handover = -1;
	handover_greet(control, at, size, given.uffd);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)control))
		close(control);
	else
		pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* The system call itself: the loader maps before libc is able to look its own function up. */
static void *map(void *addr, size_t n, int prot, int flags, int fd, off_t offset)
{
	void *at = (void *)syscall(SYS_mmap, addr, n, prot, flags, fd, offset);
	int saved = errno;

	look();
	if (at != MAP_FAILED && (flags & MAP_TYPE) != MAP_PRIVATE && is_ram(fd))
		begin_to_serve(at, n);
	errno = saved;
	return at;
}

void *mmap(void *addr, size_t n, int prot, int flags, int fd, off_t offset)
{
	return map(addr, n, prot, flags, fd, offset);
}

void *mmap64(void *addr, size_t n, int prot, int flags, int fd, off64_t offset)
{
	return map(addr, n, prot, flags, fd, offset);
}

static int open_it(const char *path, int flags, mode_t mode)
{
	look();
	if (given.kvm >= 0 && path && !strcmp(path, "/dev/kvm"))
		return fcntl(given.kvm, F_DUPFD_CLOEXEC, 3);
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static mode_t mode_of(int flags, va_list ap)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = mode_of(flags, ap);
	va_end(ap);
	return open_it(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = mode_of(flags, ap);
	va_end(ap);
	return open_it(path, flags | O_LARGEFILE, mode);
}

/* What a program compiled with _FORTIFY_SOURCE calls. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);

int __open_2(const char *path, int flags)
{
	return open_it(path, flags, 0);
}

int __open64_2(const char *path, int flags)
{
	return open_it(path, flags | O_LARGEFILE, 0);
}
