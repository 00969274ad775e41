/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "vmm/fork_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was accepted is printed, and the print read again: both times it is the same record. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fork_record first, second;
	char *once = NULL, *again = NULL;
	struct failure why;

	if (fork_record_parse(&first, (const char *)data, size, &why) == 0) {
		once = fork_record_print(&first);
		if (!once || fork_record_parse(&second, once, strlen(once), &why) < 0)
			abort();
		again = fork_record_print(&second);
		if (!again || strcmp(once, again))
			abort();
		fork_record_finish(&second);
	}
	fork_record_finish(&first);
	free(once);
	free(again);
	return 0;
}
