/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "vmm/firecracker_state.h"
#include "vmm/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As it is, and with the CRC that it should have: a fuzzer doesn't guess that. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct firecracker_state s;
	uint8_t *sealed = malloc(size + 8);
	struct failure why;
	uint64_t crc;

	if (!sealed)
		return 0;
	memcpy(sealed, data, size);
	crc = crc64_jones(0, data, size);
	for (int i = 0; i < 8; i++)
		sealed[size + i] = (uint8_t)(crc >> 8 * i);
	if (firecracker_state_parse(&s, data, size, &why) == 0 && !firecracker_state_is(data, size))
		abort();
	if (firecracker_state_parse(&s, sealed, size + 8, &why) == 0 && (!s.ram_size || s.ram_size % (1 << 20)))
		abort();
	free(sealed);
	return 0;
}
