/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <dirent.h>

#include "tests/unit/leftovers.h"
#include "tests/unit/patience.h"

static unsigned int count(const char *dir)
{
	unsigned int n = 0;
	DIR *d = opendir(dir);

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

struct leftovers count_leftovers(void)
{
	return (struct leftovers){ count("/proc/self/fd"), count("/proc/self/task") };
}

void assert_nothing_left(const struct leftovers *before)
{
	cr_assert_eq(count("/proc/self/fd"), before->fds);
	/* A thread that was joined is there for a moment yet. */
	for (time_t end = time(NULL) + PATIENCE; count("/proc/self/task") > before->threads;)
		cr_assert_not(is_late(end), "threads are left");
}
