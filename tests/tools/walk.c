/* SPDX-License-Identifier: Apache-2.0
 *
 * walk [-o] OWN < PATHS: tries all that can be done with each path, one a line, as whoever runs it, and prints "WHAT OUTCOME MODE PATH" of each try: an errno's name, or ok. OWN is a
 * directory of its own, beside the first path, that it tries to put in its place. -o: only opens, which change nothing. */
#include <dirent.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "tool.h"

static mode_t mode;

static void say(const char *what, ssize_t r, const char *path)
{
	printf("%s %s %o %s\n", what, outcome(r), (unsigned int)mode & 07777, path);
}

static void try_open(const char *what, const char *path, int flags)
{
	int fd = open(path, flags | O_NONBLOCK | O_CLOEXEC);

	say(what, fd, path);
	if (fd >= 0)
		close(fd);
}

static void opens(const char *path, bool dir)
{
	if (dir) {
		try_open("list", path, O_RDONLY | O_DIRECTORY);
		return;
	}
	try_open("read", path, O_RDONLY);
	try_open("write", path, O_WRONLY);
	try_open("both", path, O_RDWR);
}

static void changes(const char *path, const char *own, bool dir)
{
	char inside[4352], beside[4352];
	char value[16];

	snprintf(inside, sizeof inside, "%s/x", path);
	snprintf(beside, sizeof beside, "%s.stolen", own);
	say("mkdir", mkdir(inside, 0755), path);
	say("symlink", symlink("/", inside), path);
	say("mknod", mknod(inside, S_IFREG | 0600, 0), path);
	say("mkfifo", mkfifo(inside, 0600), path);
	try_open("create", inside, O_WRONLY | O_CREAT);
	say("link", link(path, beside), path);
	say("unlink", unlink(path), path);
	say("rmdir", rmdir(path), path);
	say("rename", rename(path, beside), path);
	say("replace", rename(own, path), path);
	say("chmod", chmod(path, 0777), path);
	say("chown", chown(path, getuid(), (gid_t)-1), path);
	say("chgrp", chown(path, (uid_t)-1, getgid()), path);
	say("utimes", utimensat(AT_FDCWD, path, NULL, 0), path);
	say("setxattr", setxattr(path, "user.x", "y", 1, 0), path);
	say("removexattr", removexattr(path, "user.x"), path);
	if (dir)
		return;
	say("truncate", truncate(path, 0), path);
	say("getxattr", getxattr(path, "user.x", value, sizeof value), path);
	say("stat", access(path, F_OK), path);
}

int main(int argc, char **argv)
{
	bool only = argc == 3 && !strcmp(argv[1], "-o");
	static char path[4200];

	if (argc != (only ? 3 : 2))
		return 2;
	while (fgets(path, sizeof path, stdin)) {
		struct stat st = { 0 };
		bool dir;

		path[strcspn(path, "\n")] = '\0';
		dir = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
		mode = st.st_mode;
		opens(path, dir);
		if (!only)
			changes(path, argv[argc - 1], dir);
	}
	return 0;
}
