/* SPDX-License-Identifier: Apache-2.0
 *
 * put [-a] [-c] [-i] [-r] [-f FSUID] FILE < BYTES: writes all of standard input by one write(2) and prints "ok", or the name of the errno.
 *   -a  appends, -c  gets a SIGCHLD while it writes, -i  catches SIGINT, so that an interrupted write is seen as EINTR,
 *   -f  with another file system identity than the rest of the process has, -r  for the open only. */
#include <sys/fsuid.h>

#include "tool.h"

static void nothing(int signal)
{
	(void)signal;
}

int main(int argc, char **argv)
{
	static char bytes[1 << 20];
	struct sigaction catch = { .sa_handler = nothing };
	int flags = O_WRONLY, option, fd;
	bool child = false, back = false;
	size_t size = 0;
	ssize_t n;

	while ((option = getopt(argc, argv, "acirf:")) >= 0) {
		if (option == 'a')
			flags |= O_APPEND;
		else if (option == 'c')
			child = true;
		else if (option == 'i')
			sigaction(SIGINT, &catch, NULL);
		else if (option == 'f')
			setfsuid((uid_t)atoi(optarg));
		else if (option == 'r')
			back = true;
		else
			return 2;
	}
	if (argc - optind != 1)
		return 2;
	while (size < sizeof bytes && (n = read(0, bytes + size, sizeof bytes - size)) > 0)
		size += (size_t)n;
	fd = must_open(argv[optind], flags);
	if (back)
		setfsuid(geteuid());
	if (child) {
		sigaction(SIGCHLD, &catch, NULL);
		if (fork() == 0) {
			usleep(200000);
			_exit(0);
		}
	}
	n = write(fd, bytes, size);
	if (n >= 0 && (size_t)n != size)
		printf("short %zd\n", n);
	else
		printf("%s\n", outcome(n));
	return 0;
}
