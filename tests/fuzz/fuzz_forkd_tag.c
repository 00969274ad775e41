/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/forkd_tag.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct failure why = { 0 };
	struct forkd_tag tag;

	forkd_tag_is((const char *)data, size);
	if (forkd_tag_parse(&tag, (const char *)data, size, &why) < 0) {
		if (!why.code || !*why.text)
			abort();
		return 0;
	}
	if (*tag.vmstate != '/' || *tag.memory != '/' || strchr(forkd_tag_name(tag.vmstate), '/') || strchr(forkd_tag_name(tag.memory), '/'))
		abort();
	return 0;
}
