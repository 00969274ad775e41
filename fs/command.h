/* SPDX-License-Identifier: Apache-2.0
 *
 * One write(2) is one command: a line of words. */
#ifndef FORKFS_COMMAND_H
#define FORKFS_COMMAND_H

#include <stddef.h>

#include "vmm/base/failure.h"

#define COMMAND_MAX 4096 /* bytes, the newline included */
#define COMMAND_WORDS 8

struct command {
	char line[COMMAND_MAX + 1]; /* the words, each ended by a NUL, \040 and the like decoded */
	char *word[COMMAND_WORDS];
	size_t words; /* at least 1 */
};

/* Takes one command apart: at most one newline, at the end; a longer one than COMMAND_MAX, a NUL inside, two lines, a blank line or more than
 * COMMAND_WORDS words are -EINVAL with a sentence. Words are parted by spaces and tabs; a backslash and three octal digits are one byte, as in
 * /proc/mounts (\000 is refused), a lone backslash stands for itself. Returns 0 or -EINVAL. */
int command_parse(struct command *ret, const char *data, size_t n, struct failure *why);

/* A decimal number of `min` … `max`, digits only. Returns 0 or -EINVAL. */
int command_number(const char *word, unsigned long min, unsigned long max, unsigned long *ret);

#endif
