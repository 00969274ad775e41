/* SPDX-License-Identifier: Apache-2.0
 *
 * The null driver's process: maps the memory as a VMM does, takes another one when it is handed over, and sleeps until it is ended. Arguments: the memory's
 * descriptor, its size in bytes, the socket of handover.h, /dev/userfaultfd or -1. */
#include <stdio.h>
#include <stdlib.h>

#include "vmm/handover_serve.h"

int main(int argc, char **argv)
{
	int control;
	size_t n;
	void *at;

	if (argc != 5)
		return 2;
	n = strtoull(argv[2], NULL, 10);
	control = atoi(argv[3]);
	at = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[1]), 0);
	if (at == MAP_FAILED) {
		perror("map the memory");
		return 1;
	}
	handover_greet(control, at, n, atoi(argv[4]));
	if (!handover_serve(control, at, n))
		return 0;
	for (;;)
		pause();
}
