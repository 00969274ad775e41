/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/scheduling.h"

#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/cleanup.h"

#define RESET_ON_FORK 1 /* SCHED_FLAG_RESET_ON_FORK */

static bool is_named(pid_t process, const char *thread, const char *name)
{
	char path[64], line[32];
	FILE *f;
	bool is;

	snprintf(path, sizeof path, "/proc/%d/task/%.12s/comm", (int)process, thread);
	f = fopen(path, "re");
	is = f && fgets(line, sizeof line, f) && !strncmp(line, name, strlen(name)) && line[strlen(name)] == '\n';
	if (f)
		fclose(f);
	return is;
}

pid_t thread_named(pid_t process, const char *name)
{
	char path[32];
	struct dirent *e;
	pid_t found = 0;
	DIR *d;

	snprintf(path, sizeof path, "/proc/%d/task", (int)process);
	d = opendir(path);
	while (d && !found && (e = readdir(d)))
		if (is_named(process, e->d_name, name))
			found = atoi(e->d_name);
	if (d)
		closedir(d);
	return found;
}

static void set(pid_t process, pid_t thread, struct sched_attributes a)
{
	char path[64];

	a.size = sizeof a;
	snprintf(path, sizeof path, "/proc/%d/task/%d", (int)process, (int)thread);
	if (!access(path, F_OK))
		syscall(SYS_sched_setattr, thread, &a, 0);
}

void thread_hurry(pid_t process, pid_t thread)
{
	set(process, thread, (struct sched_attributes){ .policy = SCHED_RR, .flags = RESET_ON_FORK, .priority = 1 });
}

void thread_calm(pid_t process, pid_t thread, int nice, uint64_t slice)
{
	set(process, thread, (struct sched_attributes){ .policy = SCHED_OTHER, .nice = nice, .runtime = slice });
}
