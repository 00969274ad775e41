/* SPDX-License-Identifier: Apache-2.0
 *
 * A child process that touches its shared memory as it is told, and answers what it found there. */
#ifndef FORKFS_TESTS_PAGER_CHILD_H
#define FORKFS_TESTS_PAGER_CHILD_H

#include "tests/unit/uffd_child.h"

/* Starts it, with uffd_child_start(): all of its memory is missing, and registered for a pager and for captures. */
void pager_child_start(struct uffd_child *c);

struct answer {
	uint64_t first; /* the page's first word; of 'a': how many pages were wrong */
	uint64_t last;
};

/* `what`: 'r' read a page, 'w' write `value` to one, 'a' check all of them in random order by several threads. */
void order(const struct uffd_child *c, char what, uint32_t page, uint64_t value);
bool answers_within(const struct uffd_child *c, int ms);
struct answer await_answer(const struct uffd_child *c);

/* Both. */
struct answer ask(const struct uffd_child *c, char what, uint32_t page, uint64_t value);

/* It has `value` there. */
void assert_reads(const struct uffd_child *c, uint32_t page, uint64_t value);

/* Exactly these pages of [0, pages) are in the memory. */
void assert_there(const struct uffd_child *c, uint64_t from, uint64_t to, uint64_t pages);

#endif
