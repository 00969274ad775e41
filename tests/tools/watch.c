/* SPDX-License-Identifier: Apache-2.0
 *
 * watch [-w] FILE MS: reads FILE to its end, prints "watching", then waits in poll(2), at most MS milliseconds, until there is more to read; prints
 * "grew" and the new bytes, or "nothing". Between, it is asleep: it counts how often poll returned for nothing and prints "busy" when that was more
 * than 20 times.  -w  opens a conversation. */
#include <poll.h>

#include "tool.h"

int main(int argc, char **argv)
{
	bool talk = argc > 1 && !strcmp(argv[1], "-w");
	int64_t end;
	char buf[65536];
	ssize_t n;
	int fd, idle = 0;

	if (argc - talk != 3)
		return 2;
	setvbuf(stdout, NULL, _IONBF, 0);
	fd = must_open(argv[1 + talk], (talk ? O_RDWR : O_RDONLY) | O_NONBLOCK);
	while ((n = read(fd, buf, sizeof buf)) > 0)
		;
	printf("watching\n");
	end = now_ms() + atol(argv[2 + talk]);
	for (int64_t left; (left = end - now_ms()) > 0;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int r = poll(&p, 1, (int)left);
		if (r < 0) {
			printf("poll %s\n", outcome(r));
			return 0;
		}
		n = r ? read(fd, buf, sizeof buf) : 0;
		if (n > 0) {
			printf("grew\n%.*s", (int)n, buf);
			return 0;
		}
		if (r && ++idle > 20) {
			printf("busy\n");
			return 0;
		}
	}
	printf("nothing\n");
	return 0;
}
