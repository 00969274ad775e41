/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "vmm/boot_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct boot_config c;
	struct failure why;

	if (boot_config_parse(&c, (const char *)data, size, &why) < 0)
		return 0;
	if (!c.kernel || *c.kernel != '/' || (c.initrd && *c.initrd != '/') || c.vcpus < 1 || c.vcpus > 32 || !c.ram_size || c.ram_size >> 47)
		abort();
	boot_config_finish(&c);
	return 0;
}
