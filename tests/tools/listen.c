/* SPDX-License-Identifier: Apache-2.0
 *
 * usage: listen NAME
 *
 * Listens at the path NAME, for everyone, and at the abstract name NAME; prints "ready" and waits to be killed. */
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tool.h"

static void listen_at(const char *name, bool abstract)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	size_t len = strnlen(name, sizeof at.sun_path - 2);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	memcpy(at.sun_path + abstract, name, len);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + abstract)) || listen(fd, 8)) {
		printf("listen %s\n", outcome(-1));
		exit(1);
	}
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	listen_at(argv[1], false);
	listen_at(argv[1], true);
	chmod(argv[1], 0777);
	puts("ready");
	fflush(stdout);
	pause();
	return 0;
}
