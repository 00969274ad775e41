/* SPDX-License-Identifier: Apache-2.0
 *
 * The null driver's process: maps the memory as a VMM does, takes another one when it is handed over, and sleeps until it is ended. Arguments: the memory's
 * descriptor, its size in bytes, the socket of handover.h, over which an int, 0, says first that the memory is mapped, and
 * "boot" when it has a guest from the start. */
#include <stdio.h>
#include <stdlib.h>

#include "vmm/handover_serve.h"

int main(int argc, char **argv)
{
	int mapped = 0, control;
	size_t n;
	bool boots;
	void *at;

	if (argc != 5)
		return 2;
	boots = !strcmp(argv[4], "boot");
	n = strtoull(argv[2], NULL, 10);
	control = atoi(argv[3]);
	at = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[1]), 0);
	if (at == MAP_FAILED) {
		perror("map the memory");
		return 1;
	}
	if (send(control, &mapped, sizeof mapped, MSG_NOSIGNAL) != (ssize_t)sizeof mapped)
		return 1;
	if (!handover_serve(control, at, n) && !boots)
		return 0;
	for (;;)
		pause();
}
