/* SPDX-License-Identifier: Apache-2.0
 *
 * talk SOCKET LINE...: connects to a Unix stream socket, sends each LINE with a newline and prints what is said in answer, until as many lines have come as were sent and one (a greeting). */
#include <sys/socket.h>
#include <sys/un.h>

#include "tool.h"

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (snprintf(address.sun_path, sizeof address.sun_path, "%s", path) >= (int)sizeof address.sun_path)
		return -1;
	return connect(fd, (struct sockaddr *)&address, sizeof address) ? -1 : fd;
}

int main(int argc, char **argv)
{
	int fd = argc < 2 ? -1 : connect_to(argv[1]), lines = 0;
	char c;

	if (fd < 0) {
		perror(argc < 2 ? argv[0] : argv[1]);
		return 1;
	}
	for (int i = 2; i < argc; i++)
		if (write(fd, argv[i], strlen(argv[i])) < 0 || write(fd, "\n", 1) < 0)
			return 1;
	while (lines < argc - 1 && read(fd, &c, 1) == 1) {
		putchar(c);
		lines += c == '\n';
	}
	return 0;
}
