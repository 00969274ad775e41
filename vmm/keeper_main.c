/* SPDX-License-Identifier: Apache-2.0
 *
 * A keeper's process: has open what it was started with, until it is ended. Its argument is for people. Before a byte has come on stdin nobody else knows of it, and it ends with the daemon. */
#include <sys/prctl.h>
#include <unistd.h>

int main(void)
{
	char byte;

	prctl(PR_SET_NAME, "forkfs-keeper"); /* it was executed by its descriptor's number */
	if (read(STDIN_FILENO, &byte, 1) != 1)
		return 0;
	for (;;)
		pause();
}
