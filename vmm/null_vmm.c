/* SPDX-License-Identifier: Apache-2.0
 *
 * The null driver's process: maps the memory as a VMM does and sleeps until it is ended. Arguments: the memory's descriptor, its size in bytes,
 * "shared" or "private", and a descriptor that a byte is written to when the memory is mapped. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int flags;
	void *at;

	if (argc != 5)
		return 2;
	flags = strcmp(argv[3], "shared") ? MAP_PRIVATE | MAP_NORESERVE : MAP_SHARED;
	at = mmap(NULL, strtoull(argv[2], NULL, 10), PROT_READ | PROT_WRITE, flags, atoi(argv[1]), 0);
	if (at == MAP_FAILED) {
		perror("map the memory");
		return 1;
	}
	if (write(atoi(argv[4]), "m", 1) != 1)
		return 1;
	close(atoi(argv[4]));
	for (;;)
		pause();
}
