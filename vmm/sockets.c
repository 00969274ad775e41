/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/sockets.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un address(int dir, const char *name)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	snprintf(un.sun_path, sizeof un.sun_path, "/proc/self/fd/%d/%s", dir, name);
	return un;
}

int socket_listen_at(int dir, const char *name, struct failure *why)
{
	struct sockaddr_un un = address(dir, name);
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return fail_errno(why, errno, "socket %s", name);
	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return fail_errno(why, errno, "remove the old socket %s", name);
	if (bind(fd, (const struct sockaddr *)&un, sizeof un) < 0 || listen(fd, 4) < 0)
		return fail_errno(why, errno, "listen at %s", name);
	return steal_fd(&fd);
}

int socket_connect_at(int dir, const char *name, struct failure *why)
{
	struct sockaddr_un un = address(dir, name);
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return fail_errno(why, errno, "socket %s", name);
	if (connect(fd, (const struct sockaddr *)&un, sizeof un) < 0)
		return fail_errno(why, errno, "connect to %s", name);
	return steal_fd(&fd);
}
