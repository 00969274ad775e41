/* SPDX-License-Identifier: Apache-2.0
 *
 * How many of some operations a second two mounts do, beside each other: operations OURS OTHER. In each there is a directory "b" with a file "state". The rounds
 * alternate; what is printed is medians and the ratio of their times. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 11
#define TIMES 400

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void check(int r, const char *what)
{
	if (r >= 0)
		return;
	perror(what);
	exit(1);
}

static void read_state(const char *dir)
{
	char path[512], buf[64];
	int fd;

	snprintf(path, sizeof path, "%s/b/state", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	check(fd, path);
	check((int)read(fd, buf, sizeof buf), "read");
	close(fd);
}

static void stat_state(const char *dir)
{
	char path[512];
	struct stat st;

	snprintf(path, sizeof path, "%s/b/state", dir);
	check(stat(path, &st), path);
}

static void make_and_remove(const char *dir)
{
	char path[512];

	snprintf(path, sizeof path, "%s/made", dir);
	check(mkdir(path, 0700), "mkdir");
	check(rmdir(path), "rmdir");
}

static double a_second(void (*what)(const char *), const char *dir)
{
	double begun = now();

	for (int i = 0; i < TIMES; i++)
		what(dir);
	return TIMES / (now() - begun);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *of)
{
	qsort(of, ROUNDS, sizeof *of, by_size);
	return of[ROUNDS / 2];
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*what)(const char *);
	} operations[] = { { "open, read, close of state", read_state }, { "stat of state", stat_state }, { "mkdir and rmdir", make_and_remove } };

	if (argc != 3)
		return 2;
	printf("%-28s %12s %14s %18s\n", "operations a second", "forkfs", "empty libfuse", "time, ours/empty");
	for (size_t k = 0; k < sizeof operations / sizeof *operations; k++) {
		double ours[ROUNDS], other[ROUNDS], a, b;

		for (int i = 0; i < ROUNDS; i++) {
			ours[i] = a_second(operations[k].what, argv[1]);
			other[i] = a_second(operations[k].what, argv[2]);
		}
		a = median(ours);
		b = median(other);
		printf("%-28s %12.0f %14.0f %18.2f\n", operations[k].name, a, b, b / a);
	}
	return 0;
}
