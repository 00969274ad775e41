/* SPDX-License-Identifier: Apache-2.0
 *
 * Preloaded into the daemon: makes the n-th call fail, of allocations or of system calls that can't be had or have no room. Which one is in a file that $FORKFS_FAULTS names
 * (faults.h); without it, or until it is armed, nothing fails. What can't fail in earnest isn't failed: the close of a descriptor, a read of an eventfd. */
#include "tests/tools/faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct faults *shared;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("FORKFS_FAULTS");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (at != MAP_FAILED)
		shared = at;
	if (fd >= 0)
		close(fd);
}

/* Whether this call is the one. */
static bool fails(enum fault_kind kind, const char *name, int error)
{
	if (!shared || atomic_load(&shared->armed) != (int)kind)
		return false;
	if (atomic_fetch_add(&shared->seen, 1) + 1 != atomic_load(&shared->failing))
		return false;
	snprintf(shared->failed, sizeof shared->failed, "%s", name);
	errno = error;
	return true;
}

static void *next(const char *name, void **kept)
{
	if (!*kept)
		*kept = dlsym(RTLD_NEXT, name);
	return *kept;
}

/* REAL(read): what would have been called. */
#define REAL(name) ({ static void *kept_; (__typeof__(&name))next(#name, &kept_); })

/* --- memory ---------------------------------------------------------------------------------------------------------------------- */

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *at, size_t n);

void *malloc(size_t n)
{
	return fails(FAULT_MEMORY, "malloc", ENOMEM) ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	return fails(FAULT_MEMORY, "calloc", ENOMEM) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *at, size_t n)
{
	return fails(FAULT_MEMORY, "realloc", ENOMEM) ? NULL : __libc_realloc(at, n);
}

void *reallocarray(void *at, size_t n, size_t size)
{
	size_t all;

	if (__builtin_mul_overflow(n, size, &all) || fails(FAULT_MEMORY, "reallocarray", ENOMEM)) {
		errno = ENOMEM;
		return NULL;
	}
	return __libc_realloc(at, all);
}

/* --- system calls ---------------------------------------------------------------------------------------------------------------- */

#define CALL(type, error, name, parameters, ...)                                                                                     \
	type name parameters;                                                                                                        \
	type name parameters                                                                                                         \
	{                                                                                                                            \
		return fails(FAULT_CALLS, #name, error) ? (type)-1 : REAL(name)(__VA_ARGS__);                                        \
	}

CALL(int, EMFILE, socket, (int domain, int type, int protocol), domain, type, protocol)
CALL(int, EMFILE, socketpair, (int domain, int type, int protocol, int pair[2]), domain, type, protocol, pair)
CALL(int, EMFILE, memfd_create, (const char *name, unsigned int flags), name, flags)
CALL(int, EMFILE, epoll_create1, (int flags), flags)
CALL(int, EMFILE, eventfd, (unsigned int n, int flags), n, flags)
CALL(int, EMFILE, inotify_init1, (int flags), flags)
CALL(int, ENOSPC, inotify_add_watch, (int fd, const char *path, uint32_t mask), fd, path, mask)
CALL(int, EMFILE, timerfd_create, (int clock, int flags), clock, flags)
CALL(int, EMFILE, pidfd_open, (pid_t pid, unsigned int flags), pid, flags)
CALL(int, EMFILE, pipe2, (int ends[2], int flags), ends, flags)
CALL(int, ENOSPC, ftruncate, (int fd, off_t n), fd, n)
CALL(int, ENOSPC, ftruncate64, (int fd, off64_t n), fd, n)
CALL(int, ENOSPC, mkdirat, (int dir, const char *name, mode_t mode), dir, name, mode)
CALL(int, ENOSPC, renameat, (int from, const char *a, int to, const char *b), from, a, to, b)
CALL(int, ENOMEM, unlinkat, (int dir, const char *name, int flags), dir, name, flags)
CALL(int, EACCES, bind, (int fd, const struct sockaddr *address, socklen_t n), fd, address, n)
CALL(int, EADDRINUSE, listen, (int fd, int n), fd, n)
CALL(int, ECONNREFUSED, connect, (int fd, const struct sockaddr *address, socklen_t n), fd, address, n)
CALL(ssize_t, ENOBUFS, sendmsg, (int fd, const struct msghdr *m, int flags), fd, m, flags)
CALL(ssize_t, ENOBUFS, send, (int fd, const void *data, size_t n, int flags), fd, data, n, flags)
CALL(ssize_t, ENOMEM, recvmsg, (int fd, struct msghdr *m, int flags), fd, m, flags)
CALL(ssize_t, EIO, pread, (int fd, void *to, size_t n, off_t offset), fd, to, n, offset)
CALL(ssize_t, EIO, pread64, (int fd, void *to, size_t n, off64_t offset), fd, to, n, offset)
CALL(ssize_t, ENOSPC, pwrite, (int fd, const void *from, size_t n, off_t offset), fd, from, n, offset)
CALL(ssize_t, ENOSPC, pwrite64, (int fd, const void *from, size_t n, off64_t offset), fd, from, n, offset)
CALL(ssize_t, EIO, sendfile, (int to, int from, off_t *at, size_t n), to, from, at, n)
CALL(ssize_t, EIO, sendfile64, (int to, int from, off64_t *at, size_t n), to, from, at, n)
CALL(int, EIO, fstat, (int fd, struct stat *st), fd, st)
CALL(int, EIO, fstat64, (int fd, struct stat64 *st), fd, st)
CALL(int, EPERM, fchown, (int fd, uid_t uid, gid_t gid), fd, uid, gid)
CALL(int, ENOLCK, flock, (int fd, int how), fd, how)

int clone(int (*fn)(void *), void *stack, int flags, void *data, ...)
{
	va_list ap;
	int *pidfd;

	va_start(ap, data);
	pidfd = va_arg(ap, int *);
	va_end(ap);
	return fails(FAULT_CALLS, "clone", EAGAIN) ? -1 : REAL(clone)(fn, stack, flags, data, pidfd);
}

int pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *), void *data)
{
	return fails(FAULT_CALLS, "pthread_create", EAGAIN) ? EAGAIN : REAL(pthread_create)(ret, attr, fn, data);
}

int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
	return op == EPOLL_CTL_ADD && fails(FAULT_CALLS, "epoll_ctl", ENOMEM) ? -1 : REAL(epoll_ctl)(epoll, op, fd, event);
}

static bool is_file(int fd)
{
	struct stat st;

	return !syscall(SYS_fstat, fd, &st) && S_ISREG(st.st_mode);
}

ssize_t read(int fd, void *to, size_t n)
{
	return is_file(fd) && fails(FAULT_CALLS, "read", EIO) ? -1 : REAL(read)(fd, to, n);
}

ssize_t write(int fd, const void *from, size_t n)
{
	return is_file(fd) && fails(FAULT_CALLS, "write", ENOSPC) ? -1 : REAL(write)(fd, from, n);
}

static int open_at(int dir, const char *path, int flags, mode_t mode)
{
	return fails(FAULT_CALLS, "openat", EMFILE) ? -1 : (int)syscall(SYS_openat, dir, path, flags, mode);
}

#define MODE(last) ({ mode_t m_ = 0; va_list ap_; if (last & (O_CREAT | __O_TMPFILE)) { va_start(ap_, last); m_ = va_arg(ap_, mode_t); va_end(ap_); } m_; })

int open(const char *path, int flags, ...) { return open_at(AT_FDCWD, path, flags, MODE(flags)); }
int open64(const char *path, int flags, ...) { return open_at(AT_FDCWD, path, flags, MODE(flags)); }
int openat(int dir, const char *path, int flags, ...) { return open_at(dir, path, flags, MODE(flags)); }
int openat64(int dir, const char *path, int flags, ...) { return open_at(dir, path, flags, MODE(flags)); }

int fcntl64(int fd, int cmd, ...)
{
	va_list ap;
	long arg;

	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	return cmd == F_DUPFD_CLOEXEC && fails(FAULT_CALLS, "fcntl", EMFILE) ? -1 : (int)syscall(SYS_fcntl, fd, cmd, arg);
}

int fallocate64(int fd, int mode, off64_t at, off64_t n)
{
	return fails(FAULT_CALLS, "fallocate", ENOSPC) ? -1 : (int)syscall(SYS_fallocate, fd, mode, at, n);
}

/* Of userfaultfds alone: the rest is no request for anything. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	return _IOC_TYPE(request) == 0xAA && fails(FAULT_CALLS, "ioctl", ENOMEM) ? -1 : (int)syscall(SYS_ioctl, fd, request, arg);
}

/* Also what libc has no function for: openat2, pidfd_getfd, userfaultfd. The child of a clone in our memory is left alone. */
long syscall(long number, ...)
{
	static const struct {
		long number;
		int error;
	} failing[] = { { SYS_openat2, EMFILE }, { SYS_pidfd_open, EMFILE }, { SYS_memfd_create, EMFILE }, { SYS_userfaultfd, EMFILE }, { SYS_pidfd_getfd, EMFILE } };
	long a[6];
	va_list ap;

	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	for (size_t i = 0; i < sizeof failing / sizeof *failing; i++)
		if (failing[i].number == number && fails(FAULT_CALLS, "syscall", failing[i].error))
			return -1;
	return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
	if (fails(FAULT_CALLS, "mmap", ENOMEM))
		return MAP_FAILED;
	return (void *)REAL(syscall)(SYS_mmap, at, n, prot, flags, fd, offset);
}

void *mmap64(void *at, size_t n, int prot, int flags, int fd, off64_t offset)
{
	return mmap(at, n, prot, flags, fd, offset);
}
