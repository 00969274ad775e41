/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/written.h"

#define STRETCH (64ull << 20) /* protected by one call: its process can't map or unmap meanwhile */

int written_begin(int uffd, uint64_t at, uint64_t size)
{
	int r = uffd_register(uffd, at, size, UFFDIO_REGISTER_MODE_WP);

	if (r < 0)
		return r;
	for (uint64_t done = 0, n; r == 0 && done < size; done += n) {
		n = size - done < STRETCH ? size - done : STRETCH;
		r = uffd_writeprotect(uffd, at + done, n, true);
	}
	if (r < 0)
		written_end(uffd, at, size);
	return r;
}

void written_end(int uffd, uint64_t at, uint64_t size)
{
	uffd_unregister(uffd, at, size);
}
