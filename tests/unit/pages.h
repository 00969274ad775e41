/* SPDX-License-Identifier: Apache-2.0
 *
 * Pages that have one number all over, which tells who wrote them. */
#ifndef FORKFS_TESTS_PAGES_H
#define FORKFS_TESTS_PAGES_H

#include <stdint.h>
#include <string.h>

#include "vmm/memory/extents.h"

#define PAGE ((uint64_t)PAGE_BYTES)
#define WORDS (PAGE / sizeof(uint64_t))

static inline void fill_page(void *ret, uint64_t value)
{
	for (size_t i = 0; i < WORDS; i++)
		memcpy((char *)ret + i * sizeof value, &value, sizeof value);
}

#endif
