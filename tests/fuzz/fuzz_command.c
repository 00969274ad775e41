/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fs/command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The words lie in the line one after another, none is empty, and none is longer than what it was made of. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct failure why = { 0 };
	struct command c;
	unsigned long n;
	size_t sum = 0;

	if (command_parse(&c, (const char *)data, size, &why) < 0) {
		if (why.code != EINVAL || !*why.text)
			abort();
		return 0;
	}
	if (c.words < 1 || c.words > COMMAND_WORDS)
		abort();
	for (size_t i = 0; i < c.words; i++) {
		if (c.word[i] != c.line + sum || !*c.word[i])
			abort();
		sum += strlen(c.word[i]) + 1;
		if (command_number(c.word[i], 5, 50, &n) == 0 && (n < 5 || n > 50))
			abort();
	}
	if (sum > size + 1)
		abort();
	return 0;
}
