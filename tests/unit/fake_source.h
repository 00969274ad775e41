/* SPDX-License-Identifier: Apache-2.0
 *
 * A source that tells what was read of it, fails where it is told to, and waits. */
#ifndef FORKFS_TESTS_FAKE_SOURCE_H
#define FORKFS_TESTS_FAKE_SOURCE_H

#include "tests/unit/pages.h"
#include "vmm/memory/memory_source.h"

#define PAGES 1024u
#define SIZE (PAGES * PAGE)

struct fake_source {
	struct memory_source base;
	atomic_uint_fast64_t bad_from, bad_to; /* bytes that can't be read */
	atomic_bool shut;                      /* readers wait */
	atomic_int waiting;
	atomic_uint reads;
	uint64_t log[PAGES]; /* where the first of them were */
};

struct fake_source *fake_source_create(void);

/* What a page of it has. Every seventh is a hole. */
static inline uint64_t pattern(uint64_t page)
{
	return page % 7 == 6 ? 0 : 0x5000000000000000 + page;
}

#endif
