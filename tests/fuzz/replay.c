/* SPDX-License-Identifier: Apache-2.0
 *
 * Gives a fuzzer the files it is named, and those in the directories it is named: what once was found stays found, with any compiler. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned int replayed;

/* The copy has the file's length exactly, so that a sanitizer sees a read beyond it. */
static int replay(const char *path, const struct stat *st)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	AUTO_FREE uint8_t *data = malloc((size_t)st->st_size);

	if (fd < 0 || (!data && st->st_size) || read(fd, data, (size_t)st->st_size) != st->st_size) {
		fprintf(stderr, "%s: can't be read\n", path);
		return 1;
	}
	LLVMFuzzerTestOneInput(data, (size_t)st->st_size);
	replayed++;
	return 0;
}

static int visit(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)ftw;
	if (type == FTW_D)
		return 0;
	return type == FTW_F ? replay(path, st) : 1;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (nftw(argv[i], visit, 8, FTW_PHYS)) {
			fprintf(stderr, "%s: %s\n", argv[i], strerror(errno));
			return 1;
		}
	}
	printf("%u inputs\n", replayed);
	return replayed ? 0 : 1;
}
