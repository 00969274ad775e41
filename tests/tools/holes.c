/* SPDX-License-Identifier: Apache-2.0
 *
 * holes FILE: prints its size, then each stretch of data as "FIRST-END", found by SEEK_DATA and SEEK_HOLE. */
#include "tool.h"

int main(int argc, char **argv)
{
	off_t at = 0, end, size;
	int fd;

	if (argc != 2)
		return 2;
	fd = must_open(argv[1], O_RDONLY);
	size = lseek(fd, 0, SEEK_END);
	printf("size %lld\n", (long long)size);
	while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
		end = lseek(fd, at, SEEK_HOLE);
		if (end <= at) {
			printf("SEEK_HOLE %s %lld\n", outcome(end), (long long)end);
			return 0;
		}
		printf("%lld-%lld\n", (long long)at, (long long)end);
		at = end;
	}
	if (errno != ENXIO)
		printf("SEEK_DATA %s\n", outcome(-1));
	return 0;
}
