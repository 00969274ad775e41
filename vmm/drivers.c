/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "vmm/driver.h"

const struct driver *const drivers[] = { &driver_firecracker, &driver_qemu, &driver_null, NULL };

const struct driver *driver_find(const char *name)
{
	for (size_t i = 0; drivers[i]; i++)
		if (!strcmp(drivers[i]->name, name))
			return drivers[i];
	return NULL;
}
