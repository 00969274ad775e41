/* SPDX-License-Identifier: Apache-2.0
 *
 * In the example guest: mixes bytes from outside into the kernel's random numbers and has it begin anew with them. A fork begins with the state that its parent had, its
 * random numbers' too: all forks of a snapshot draw the same ones until then.
 *
 * usage: reseed HEXADECIMAL     at least 32 bytes, secret and for this guest alone. Prints "reseeded". */
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define BYTES_MIN 32
#define BYTES_MAX 256

int main(int argc, char **argv)
{
	struct {
		struct rand_pool_info info;
		unsigned char bytes[BYTES_MAX];
	} pool = { 0 };
	size_t n = argc == 2 ? strlen(argv[1]) / 2 : 0;
	int fd = open("/dev/urandom", O_RDWR);

	if (n < BYTES_MIN || n > BYTES_MAX) {
		fprintf(stderr, "usage: reseed HEXADECIMAL of %d to %d bytes\n", BYTES_MIN, BYTES_MAX);
		return 2;
	}
	for (size_t i = 0; i < n; i++)
		if (sscanf(argv[1] + 2 * i, "%2hhx", pool.bytes + i) != 1) {
			fprintf(stderr, "reseed: byte %zu is not hexadecimal\n", i);
			return 2;
		}
	pool.info.entropy_count = (int)n * 8;
	pool.info.buf_size = (int)n;
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) || ioctl(fd, RNDRESEEDCRNG)) {
		perror("reseed");
		return 1;
	}
	puts("reseeded");
	return 0;
}
