/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "tests/unit/patience.h"

void nap(void)
{
	nanosleep(&(struct timespec){ 0, 100000 }, NULL);
}

bool is_late(time_t end)
{
	nap();
	return time(NULL) > end;
}

void await(const atomic_int *n, int least, const char *what)
{
	for (time_t end = time(NULL) + PATIENCE; atomic_load(n) < least;)
		cr_assert_not(is_late(end), "%s", what);
}
