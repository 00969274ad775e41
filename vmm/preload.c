/* SPDX-License-Identifier: Apache-2.0
 *
 * Preloaded into a VMM that runs without privilege, for what its command line can't say. The environment names inherited descriptors:
 *
 * FORKFS_PLACEHOLDER, FORKFS_MEMORY: where the VMM maps the placeholder's file (it opened it anew, so device and inode tell), the memory is
 *     mapped instead, private: the VMM believes that it shares, and leaves RAM out of the state that it saves.
 * FORKFS_KVM: what an open of /dev/kvm gives. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

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
	int memory, kvm;
	struct stat placeholder;
} given = { .memory = -1, .kvm = -1 };

static int descriptor(const char *name)
{
	const char *value = getenv(name);

	return value ? atoi(value) : -1;
}

/* The first of these calls comes before main() and before there is a second thread. */
static void look(void)
{
	int placeholder;

	if (given.ready || !environ)
		return;
	given.ready = true;
	given.kvm = descriptor("FORKFS_KVM");
	given.memory = descriptor("FORKFS_MEMORY");
	placeholder = descriptor("FORKFS_PLACEHOLDER");
	if (placeholder < 0 || fstat(placeholder, &given.placeholder) < 0)
		given.memory = -1;
}

static bool is_placeholder(int fd)
{
	struct stat st;
	int saved = errno;
	bool same = fd >= 0 && given.memory >= 0 && !fstat(fd, &st) && st.st_dev == given.placeholder.st_dev &&
		    st.st_ino == given.placeholder.st_ino;

	errno = saved;
	return same;
}

/* The system call itself: the loader maps before libc is able to look its own function up. */
static void *map(void *addr, size_t n, int prot, int flags, int fd, off_t offset)
{
	look();
	if ((flags & MAP_TYPE) != MAP_PRIVATE && is_placeholder(fd)) {
		fd = given.memory;
		flags = (flags & ~MAP_TYPE & ~MAP_SYNC) | MAP_PRIVATE | MAP_NORESERVE;
	}
	return (void *)syscall(SYS_mmap, addr, n, prot, flags, fd, offset);
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
