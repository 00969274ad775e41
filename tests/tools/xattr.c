/* SPDX-License-Identifier: Apache-2.0
 *
 * Sets an extended attribute, as systemd does with a control group that it delegates: xattr PATH NAME VALUE */
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: xattr PATH NAME VALUE\n");
		return 2;
	}
	if (setxattr(argv[1], argv[2], argv[3], strlen(argv[3]), 0)) {
		perror(argv[1]);
		return 1;
	}
	return 0;
}
