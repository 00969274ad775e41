/* SPDX-License-Identifier: Apache-2.0
 *
 * swap A B: exchanges two names again and again, until it is killed. */
#include "tool.h"

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	while (!renameat2(AT_FDCWD, argv[1], AT_FDCWD, argv[2], RENAME_EXCHANGE))
		;
	printf("%s\n", outcome(-1));
	return 1;
}
