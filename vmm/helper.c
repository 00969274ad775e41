/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#ifndef FORKFS_LIBDIR
#define FORKFS_LIBDIR "/usr/local/lib/forkfs"
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 0x10u /* Linux 6.3 */
#endif

/* Seen from the executable: beside it, then as the build folder has them. */
static const char *const beside[] = { "", "vmm/", "../vmm/", "../../vmm/" };

/* One that somebody else could have put there is passed over. */
static int open_trusted(const char *path)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (st.st_uid != 0 && st.st_uid != geteuid()) || (st.st_mode & S_IWOTH))
		return -EPERM;
	return steal_fd(&fd);
}

/* It may be there: it can't be opened just now. */
static bool is_want(int r)
{
	return r == -EMFILE || r == -ENFILE || r == -ENOMEM;
}

static int find(const char *name)
{
	char exe[PATH_MAX], path[PATH_MAX + 64], *slash;
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
	int fd;

	exe[n < 0 ? 0 : n] = '\0';
	slash = strrchr(exe, '/');
	for (size_t i = 0; slash && i < ARRAY_LEN(beside); i++) {
		slash[1] = '\0';
		snprintf(path, sizeof path, "%s%s%s", exe, beside[i], name);
		fd = open_trusted(path);
		if (fd >= 0 || is_want(fd))
			return fd;
	}
	snprintf(path, sizeof path, "%s/%s", FORKFS_LIBDIR, name);
	return open_trusted(path);
}

static int copy_all(int to, int from)
{
	ssize_t n;

	while ((n = sendfile(to, from, NULL, 1 << 20)) > 0)
		;
	if (n < 0 || fcntl(to, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return -errno;
	return 0;
}

static int copy_of(int file, const char *name, struct failure *why)
{
	AUTO_CLOSE int copy = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	int r;

	if (copy < 0 && errno == EINVAL)
		copy = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (copy < 0)
		return fail_errno(why, errno, "memory for %s", name);
	r = copy_all(copy, file);
	if (r < 0)
		return fail_errno(why, -r, "copy %s", name);
	return steal_fd(&copy);
}

/* Whether any user may read and execute the file behind a descriptor; the folders above it don't matter then. */
static bool is_for_all(int file)
{
	struct stat st;

	return !fstat(file, &st) && (st.st_mode & (S_IROTH | S_IXOTH)) == (S_IROTH | S_IXOTH);
}

int helper_open(const char *name, struct failure *why)
{
	AUTO_CLOSE int file = find(name);

	if (is_want(file))
		return fail_errno(why, -file, "open %s", name);
	if (file < 0)
		return fail(why, EOPNOTSUPP, "%s is neither beside the daemon nor in %s: install forkfs whole", name, FORKFS_LIBDIR);
	return is_for_all(file) ? steal_fd(&file) : copy_of(file, name, why);
}
