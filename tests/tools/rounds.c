/* SPDX-License-Identifier: Apache-2.0
 *
 * Looks at the RAM of tests/guest/stub.S in a file: each round of that guest writes its number into the beginning and the end of the next 64 of 8192 pages. At any instant the
 * last 64 rounds are in 64 pages each, but for the one under way, of which one page may have it at the beginning alone. Prints how many pages are none of that, which were not
 * captured at the same instant as the rest: rounds FILE */
#include "tool.h"

#define COUNTER ((2u << 20) + 16)
#define PAGES (64u << 20)
#define COUNT 8192
#define ROUND 64

static void get(int fd, void *to, size_t n, off_t at)
{
	for (ssize_t k; n; to = (char *)to + k, at += k, n -= (size_t)k) {
		k = pread(fd, to, n, at);
		if (k <= 0) {
			printf("read %s\n", outcome(-1));
			exit(0);
		}
	}
}

/* Of one round: all its pages have a number, the same, and the counter was that number when they were written. */
int main(int argc, char **argv)
{
	int fd = argc == 2 ? must_open(argv[1], O_RDONLY) : -1;
	unsigned int bad = 0, halves = 0, split = 0, written = 0;
	static uint64_t pages[ROUND][512];
	uint64_t now;

	if (fd < 0)
		return 2;
	get(fd, &now, sizeof now, COUNTER);
	for (int block = 0; block < COUNT / ROUND; block++) {
		uint64_t first = 0;
		bool mixed = false;

		get(fd, pages, sizeof pages, PAGES + (off_t)block * (off_t)sizeof pages);
		for (int i = 0; i < ROUND; i++) {
			uint64_t begin = pages[i][0], end = pages[i][511];

			written += begin != 0;
			halves += begin != end;
			bad += begin > now || end > now || end > begin;
			if (i == 0)
				first = begin;
			else
				mixed = mixed || begin != first;
		}
		split += mixed;
	}
	bad += (halves > 1 ? halves - 1 : 0) + (split > 1 ? split - 1 : 0);
	printf("%u bad, %s\n", bad, written == COUNT ? "all written" : "some not written yet");
	return 0;
}
