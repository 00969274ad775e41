/* SPDX-License-Identifier: Apache-2.0
 *
 * Waiting for another thread or process, but not for ever. */
#ifndef FORKFS_TESTS_PATIENCE_H
#define FORKFS_TESTS_PATIENCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#define PATIENCE 30 /* seconds */

/* Sleeps for a moment, too short to be noticed. */
void nap(void);

/* For loops that wait: a nap. Returns whether `end` is over. */
bool is_late(time_t end);

/* Until *n is `least` or more; `what` tells what is wrong if it never is. */
void await(const atomic_int *n, int least, const char *what);

#endif
