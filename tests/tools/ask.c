/* SPDX-License-Identifier: Apache-2.0
 *
 * ask [-n] [-1] [-m MS] FILE [COMMAND]: a conversation. Opens FILE for reading and writing, writes COMMAND (a newline is added), when there is one, and
 * prints what is read until the end. A failed write or read is told by the errno's name, as "write EINVAL", "read EIO".
 *   -n  with O_NONBLOCK, -1  ends after the first read, -m  ends after MS milliseconds and prints "waited". */
#include "tool.h"

static void out_of_time(int signal)
{
	static const char text[] = "waited\n";

	(void)signal;
	if (write(1, text, sizeof text - 1) < 0)
		_exit(1);
	_exit(0);
}

int main(int argc, char **argv)
{
	int flags = O_RDWR, option, fd;
	long limit = 0;
	bool once = false;
	char buf[4097];
	ssize_t n;

	while ((option = getopt(argc, argv, "n1m:")) >= 0) {
		if (option == 'n')
			flags |= O_NONBLOCK;
		else if (option == '1')
			once = true;
		else if (option == 'm')
			limit = atol(optarg);
		else
			return 2;
	}
	if (argc - optind < 1 || argc - optind > 2)
		return 2;
	setvbuf(stdout, NULL, _IONBF, 0);
	if (limit) {
		signal(SIGALRM, out_of_time);
		struct timespec t = { .tv_sec = limit / 1000, .tv_nsec = limit % 1000 * 1000000 };
		struct itimerspec when = { .it_value = t };
		timer_t timer;
		if (timer_create(CLOCK_MONOTONIC, NULL, &timer) < 0 || timer_settime(timer, 0, &when, NULL) < 0)
			return 2;
	}
	fd = must_open(argv[optind], flags);
	if (argv[optind + 1]) {
		int size = snprintf(buf, sizeof buf, "%s\n", argv[optind + 1]);
		n = write(fd, buf, (size_t)size);
		if (n != size) {
			printf("write %s\n", outcome(n));
			return 0;
		}
	}
	do {
		n = read(fd, buf, sizeof buf - 1);
		if (n < 0)
			printf("read %s\n", outcome(n));
		else if (n > 0)
			fwrite(buf, 1, (size_t)n, stdout);
	} while (n > 0 && !once);
	return 0;
}
