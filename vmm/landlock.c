/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/landlock.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* linux/landlock.h since 6.2, 6.7, 6.10 and 6.12. */
#define FS_TRUNCATE (1ull << 14)
#define FS_IOCTL_DEV (1ull << 15)
#define NET_TCP 3ull /* bind, connect */
#define SCOPE_ALL 3ull /* abstract sockets, signals */

struct ruleset_attributes {
	uint64_t fs, net, scoped;
};

/* FORKFS_NO_LANDLOCK in the daemon's environment is for tests of what stands behind it, on kernels without. */
int landlock_abi(void)
{
	long abi = getenv("FORKFS_NO_LANDLOCK") ? -1 : syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return abi < 0 ? 0 : (int)abi;
}

/* All that this ABI knows of: what isn't handled is allowed. */
static uint64_t handled(int abi)
{
	uint64_t fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;

	if (abi >= 2)
		fs |= LANDLOCK_ACCESS_FS_REFER;
	if (abi >= 3)
		fs |= FS_TRUNCATE;
	if (abi >= 5)
		fs |= FS_IOCTL_DEV;
	return fs;
}

static uint64_t rights(unsigned int what, bool directory)
{
	uint64_t fs = 0;

	if (what & ALLOW_READ)
		fs |= LANDLOCK_ACCESS_FS_READ_FILE | (directory ? LANDLOCK_ACCESS_FS_READ_DIR : 0);
	if (what & ALLOW_EXECUTE)
		fs |= LANDLOCK_ACCESS_FS_EXECUTE;
	if (what & ALLOW_WRITE)
		fs |= LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE;
	if ((what & ALLOW_SOCKETS) && directory)
		fs |= LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE;
	if (what & ALLOW_DEVICE)
		fs |= FS_IOCTL_DEV;
	return fs;
}

static int add(int ruleset, const struct allow *a, uint64_t known)
{
	AUTO_CLOSE int own = a->path ? open(a->path, O_PATH | O_CLOEXEC) : -1;
	struct landlock_path_beneath_attr rule = { .parent_fd = a->path ? own : a->fd };
	struct stat st;

	if (a->path && own < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(rule.parent_fd, &st))
		return -errno;
	rule.allowed_access = rights(a->what, S_ISDIR(st.st_mode)) & known;
	if (!rule.allowed_access)
		return 0;
	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) ? -errno : 0;
}

static int add_all(int ruleset, const struct allow *list, size_t n, uint64_t known)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		r = add(ruleset, &list[i], known);
		if (r == -EBADFD) /* a memfd: of no file system that is guarded */
			r = 0;
	}
	return r;
}

int landlock_make(int *ret, const struct allow *list, size_t n, struct failure *why)
{
	int abi = landlock_abi(), r;
	struct ruleset_attributes a = { .fs = handled(abi), .net = abi >= 4 ? NET_TCP : 0, .scoped = abi >= 6 ? SCOPE_ALL : 0 };
	size_t size = abi >= 6 ? sizeof a : abi >= 4 ? 2 * sizeof a.fs : sizeof a.fs;
	AUTO_CLOSE int ruleset = -1;

	*ret = -1;
	if (!abi)
		return 0;
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &a, size, 0);
	if (ruleset < 0)
		return fail_errno(why, errno, "a ruleset of Landlock's");
	r = add_all(ruleset, list, n, a.fs);
	if (r < 0)
		return fail_errno(why, -r, "a rule of Landlock's");
	*ret = steal_fd(&ruleset);
	return 0;
}
