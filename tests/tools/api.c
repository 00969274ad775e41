/* SPDX-License-Identifier: Apache-2.0
 *
 * One request to an HTTP server at a Unix socket: api SOCKET METHOD TARGET BODY. Prints the answer's status and body, "nothing" when there was none. */
#include <sys/socket.h>
#include <sys/un.h>

#include "tool.h"

int main(int argc, char **argv)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	char buf[65536], *body;
	size_t n = 0;
	ssize_t k;
	int fd;

	if (argc != 5 || strlen(argv[1]) >= sizeof un.sun_path)
		return 2;
	memcpy(un.sun_path, argv[1], strlen(argv[1]));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&un, sizeof un)) {
		printf("connect %s\n", outcome(-1));
		return 0;
	}
	dprintf(fd, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", argv[2], argv[3], strlen(argv[4]), argv[4]);
	do {
		k = read(fd, buf + n, sizeof buf - 1 - n);
		n += k > 0 ? (size_t)k : 0;
		buf[n] = '\0';
		body = strstr(buf, "\r\n\r\n");
	} while (k > 0 && !body); /* an answer of one piece, as short ones are */
	if (!body)
		return puts("nothing") < 0;
	return printf("%.*s %s\n", (int)strcspn(buf + 9, " \r"), buf + 9, body + 4) < 0;
}
