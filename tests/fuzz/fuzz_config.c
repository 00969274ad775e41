/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "vmm/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte is the key, the rest its value, which is taken as it is or refused with a sentence; a number can be read back, and so can the range of uids. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config c = { 0 }, copy = { 0 };
	enum config_id id = size ? data[0] % CONFIG_COUNT : 0;
	char *value = strndup(size ? (const char *)data + 1 : "", size ? size - 1 : 0);
	uint32_t first = 0, last = 0;
	struct failure why = { 0 };

	if (!value)
		return 0;
	if (config_set(&c, id, value, &why) < 0) {
		if (why.code != EINVAL || !*why.text)
			abort();
	} else if (strcmp(config_get(&c, id), value) || config_copy(&copy, &c, CONFIG_FORK_COUNT) < 0 || (id < CONFIG_FORK_COUNT && strcmp(config_get(&copy, id), value))) {
		abort();
	}
	config_number(&c, id);
	config_uids(&c, &first, &last);
	if (first < 1000 || last < first)
		abort();
	config_finish(&copy);
	config_finish(&c);
	free(value);
	return 0;
}
