/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>

#include "vmm/qmp_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct failure why;
	struct qmp_message m;

	if (qmp_message_parse(&m, (const char *)data, size, &why) == 0)
		qmp_message_finish(&m);
	return 0;
}
