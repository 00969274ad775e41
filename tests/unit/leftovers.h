/* SPDX-License-Identifier: Apache-2.0
 *
 * What this process has yet when all is said to be gone. */
#ifndef FORKFS_TESTS_LEFTOVERS_H
#define FORKFS_TESTS_LEFTOVERS_H

struct leftovers {
	unsigned int fds, threads;
};

/* What it has now. */
struct leftovers count_leftovers(void);

/* It has as many descriptors as `before`, and no more threads. */
void assert_nothing_left(const struct leftovers *before);

#endif
