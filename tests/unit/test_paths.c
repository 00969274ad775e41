/* SPDX-License-Identifier: Apache-2.0
 *
 * Every path is looked up twice: on one mount, where the kernel does it, and across two, where path_open() goes name by name. Both have to come to the same. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/cleanup.h"
#include "vmm/paths.h"

static char top[] = "/tmp/forkfs-paths.XXXXXX";
static int root;

static void make(const char *dir, const char *name, const char *text)
{
	char path[256];
	AUTO_CLOSE int fd = -1;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void link_to(const char *target, const char *dir, const char *name)
{
	char path[256];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	cr_assert_eq(symlink(target, path), 0, "%s", path);
}

/* What `plain` and `mounted` hold. */
static void fill(const char *dir, const char *other)
{
	char path[256], name[16], target[16];

	make(dir, "file", "inside");
	snprintf(path, sizeof path, "%s/sub", dir);
	cr_assert_eq(mkdir(path, 0755), 0);
	make(path, "file", "below");
	link_to("file", dir, "relative");
	link_to("../file", path, "up");
	link_to("../../../../../../file", path, "far_up");
	link_to("/file", dir, "absolute");
	link_to("/", dir, "all");
	link_to("loop", dir, "loop");
	link_to("missing", dir, "dangling");
	link_to(other, dir, "other");
	for (int i = 1; i <= 41; i++) {
		snprintf(name, sizeof name, "l%d", i);
		snprintf(target, sizeof target, i == 1 ? "file" : "l%d", i - 1);
		link_to(target, dir, name);
	}
	snprintf(path, sizeof path, "%s/closed", dir);
	cr_assert_eq(mkdir(path, 0700), 0);
	make(path, "file", "secret");
	snprintf(path, sizeof path, "%s/sticky", dir);
	cr_assert_eq(mkdir(path, 0755), 0);
	cr_assert_eq(chmod(path, 01777), 0);
	link_to("../file", path, "strangers");
	cr_assert_eq(chown(path, 4000, 4000), 0);
}

static void set_up(void)
{
	char path[256];

	if (geteuid())
		cr_skip_test("only root can mount");
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		cr_skip_test("no mount namespace can be had");
	cr_assert_not_null(mkdtemp(top));
	cr_assert_eq(mount("none", top, "tmpfs", 0, "mode=755"), 0);
	make(top, "file", "top");
	snprintf(path, sizeof path, "%s/plain", top);
	cr_assert_eq(mkdir(path, 0755), 0);
	fill(path, "../mounted");
	snprintf(path, sizeof path, "%s/mounted", top);
	cr_assert_eq(mkdir(path, 0755), 0);
	cr_assert_eq(mount("none", path, "tmpfs", 0, "mode=755"), 0);
	fill(path, "../plain");
	root = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(root, 0);
}

static void tear_down(void)
{
	close_fd(&root);
	umount2(top, MNT_DETACH);
	rmdir(top);
}

/* What is in the file at `path`, "directory", or the errno's name. */
static const char *what(const char *path, bool beneath)
{
	static char text[64];
	struct path_inside inside;
	AUTO_CLOSE int fd = -1, file = -1;
	char proc[32];
	struct stat st;
	ssize_t n;
	int r = path_open(root, path, beneath, &fd, &inside);

	if (r < 0)
		return strerrorname_np(-r);
	if (r == PATH_INSIDE || fstat(fd, &st))
		return "?";
	if (S_ISDIR(st.st_mode))
		return "directory";
	snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
	file = open(proc, O_RDONLY | O_CLOEXEC);
	n = file < 0 ? -1 : read(file, text, sizeof text - 1);
	text[n < 0 ? 0 : n] = '\0';
	return n < 0 ? strerrorname_np(errno) : text;
}

/* `path` below both directories. */
static void both(const char *path, bool beneath, const char *expected)
{
	static const char *const dirs[] = { "plain", "mounted" };
	static char whole[2 * PATH_MAX];

	for (size_t i = 0; i < 2; i++) {
		snprintf(whole, sizeof whole, "%s/%s", dirs[i], path);
		cr_expect_str_eq(what(whole, beneath), expected, "%.80s: %s instead of %s", whole, what(whole, beneath), expected);
	}
}

TestSuite(paths, .init = set_up, .fini = tear_down);

Test(paths, names)
{
	char longer[NAME_MAX + 2], longest[PATH_MAX + 1];

	memset(longer, 'x', sizeof longer);
	longer[NAME_MAX + 1] = '\0';
	memset(longest, '/', sizeof longest);
	memcpy(longest + PATH_MAX - 4, "file", 5);
	both("file", false, "inside");
	both("sub//./file", false, "below");
	both("sub", false, "directory");
	both("sub/", false, "directory");
	both("", false, "directory");
	both(".", false, "directory");
	both("file/", false, "ENOTDIR");
	both("file/.", false, "ENOTDIR");
	both("file/..", false, "ENOTDIR");
	both("file/x", false, "ENOTDIR");
	both("relative/", false, "ENOTDIR");
	both("missing", false, "ENOENT");
	both("missing/file", false, "ENOENT");
	both(longer, false, "ENAMETOOLONG");
	both(longest, false, "ENAMETOOLONG");
	cr_expect_str_eq(what("", false), "ENOENT");
}

Test(paths, dots)
{
	both("..", false, "directory");
	both("../file", false, "top");
	both("sub/../file", false, "inside");
	both("../../../file", false, "top");
	both("../../etc/passwd", false, "ENOENT");
	both("missing/../file", false, "ENOENT");
}

Test(paths, links)
{
	both("relative", false, "inside");
	both("sub/up", false, "inside");
	both("sub/far_up", false, "top");
	both("absolute", false, "top");
	both("all/file", false, "top");
	both("all/plain/file", false, "inside");
	both("other/file", false, "inside");
	both("other/other/sub/file", false, "below");
	both("dangling", false, "ENOENT");
	both("loop", false, "ELOOP");
	both("l40", false, "inside");
	both("l41", false, "ELOOP");
}

Test(paths, beneath)
{
	both("relative", true, "inside");
	both("sub/up", true, "inside");
	both("sub/../../file", true, "top");
	both("other/file", true, "inside");
	both("sub/far_up", true, "EXDEV");
	both("absolute", true, "EXDEV");
	both("../../file", true, "EXDEV");
}

Test(paths, magic_links)
{
	char path[256];

	snprintf(path, sizeof path, "%s/proc", top);
	cr_assert_eq(mkdir(path, 0755), 0);
	cr_assert_eq(mount("proc", path, "proc", 0, NULL), 0);
	link_to("proc/self/root/etc", top, "out");
	cr_expect_str_eq(what("proc/self/root/etc/passwd", false), "ELOOP");
	cr_expect_str_eq(what("proc/self/cwd", false), "ELOOP");
	cr_expect_str_eq(what("out/passwd", false), "ELOOP");
	close_fd(&root); /* and where the walk begins there */
	root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof path, "%d/root/etc/passwd", (int)getpid());
	cr_expect_str_eq(what(path, false), "ELOOP");
	snprintf(path, sizeof path, "%d/exe", (int)getpid());
	cr_expect_str_eq(what(path, false), "ELOOP");
}

/* As another user: search permission is asked for at every step, back ones included. */
Test(paths, of_another_user)
{
	setfsuid(4001);
	both("file", false, "inside");
	both("closed", false, "directory");
	both("closed/file", false, "EACCES");
	both("closed/.", false, "EACCES");
	both("closed/..", false, "EACCES");
	both("closed/../file", false, "EACCES");
	setfsuid(0);
}

/* root's link in somebody's sticky directory: the kernel keeps all but root from following it where fs.protected_symlinks is set, and we always do. */
Test(paths, protected_links)
{
	AUTO_CLOSE int fd = open("/proc/sys/fs/protected_symlinks", O_RDONLY | O_CLOEXEC);
	char on = 0;

	both("sticky/strangers", false, "inside");
	setfsuid(4001);
	if (read(fd, &on, 1) == 1 && on == '1')
		both("sticky/strangers", false, "EACCES");
	else
		cr_expect_str_eq(what("mounted/sticky/strangers", false), "EACCES");
	setfsuid(0);
}

/* A mount that follows no links. */
Test(paths, no_links_followed)
{
	char path[256];

	snprintf(path, sizeof path, "%s/mounted", top);
	if (mount("none", path, NULL, MS_REMOUNT | MS_NOSYMFOLLOW, NULL))
		cr_skip_test("no such mount option");
	cr_expect_str_eq(what("mounted/file", false), "inside");
	cr_expect_str_eq(what("mounted/relative", false), "ELOOP");
}
