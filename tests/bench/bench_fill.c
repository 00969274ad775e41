/* SPDX-License-Identifier: Apache-2.0
 *
 * How long it takes to make a child's RAM out of a memory file: ours, cp --sparse=always and a dense copy by turns, each into a fresh memfd. The
 * order rotates, for whoever follows the dense copy gets the pages that it made cold. Prints medians; judges nothing. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "vmm/memory/copy.h"
#include "vmm/memory/memory_source.h"

#define SIZE (512ull << 20)
#define PIECE (64u << 10)
#define PIECES 1600 /* of data: 100 MiB */
#define BLOCK (1u << 20)
#define ROUNDS 9

extern char **environ;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int by_memory_fill(int to, int from)
{
	struct memory_source *source;
	int r = memory_source_create_file(&source, from, SIZE, NULL, NULL);

	if (r == 0)
		r = memory_fill(to, source, NULL, NULL, NULL);
	memory_source_unref(source);
	return r;
}

static int by_cp(int to, int from)
{
	char name[] = "cp", option[] = "--sparse=always", source[32], target[32];
	char *argv[] = { name, option, source, target, NULL };
	int status;
	pid_t pid;

	snprintf(source, sizeof source, "/proc/self/fd/%d", from);
	snprintf(target, sizeof target, "/proc/self/fd/%d", to);
	if (posix_spawnp(&pid, name, NULL, NULL, argv, environ))
		return -1;
	return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -1;
}

static int densely(int to, int from)
{
	static char block[BLOCK];

	for (off_t at = 0; at < (off_t)SIZE; at += BLOCK)
		if (pread(from, block, BLOCK, at) != BLOCK || pwrite(to, block, BLOCK, at) != BLOCK)
			return -1;
	return 0;
}

static struct way {
	const char *name;
	int (*fill)(int to, int from);
	double ms[ROUNDS];
} ways[] = {
	{ "memory_fill", by_memory_fill, { 0 } },
	{ "cp --sparse=always", by_cp, { 0 } },
	{ "dense copy", densely, { 0 } },
};

/* Pieces of data all over the file, at places that are the same in every run. */
static int make_source(const char *dir)
{
	static char piece[PIECE];
	unsigned int place = 1;
	int fd = open(dir, O_TMPFILE | O_RDWR, 0600);

	if (fd < 0 || ftruncate(fd, (off_t)SIZE))
		return -1;
	for (unsigned int i = 0; i < PIECE; i++)
		piece[i] = (char)(i % 255 + 1);
	for (unsigned int i = 0; i < PIECES; i++) {
		place = (place * 5 + 3) % (SIZE / PIECE); /* a full period: no place comes twice */
		if (pwrite(fd, piece, PIECE, (off_t)place * PIECE) != PIECE)
			return -1;
	}
	return fd;
}

static int measure(struct way *w, int round, int source)
{
	AUTO_CLOSE int to = memfd_create("bench", 0);
	double start;

	if (to < 0 || ftruncate(to, (off_t)SIZE))
		return -1;
	start = now();
	if (w->fill(to, source) < 0)
		return -1;
	w->ms[round] = now() - start;
	return 0;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(struct way *w)
{
	qsort(w->ms, ROUNDS, sizeof *w->ms, compare);
	return w->ms[ROUNDS / 2];
}

static int run(const char *dir)
{
	AUTO_CLOSE int source = make_source(dir);
	double ours;

	if (source < 0)
		return -1;
	for (int round = 0; round < ROUNDS; round++)
		for (size_t i = 0; i < ARRAY_LEN(ways); i++)
			if (measure(&ways[(i + (size_t)round) % ARRAY_LEN(ways)], round, source) < 0)
				return -1;
	printf("512 MiB with 100 MiB of data, in %s, median of %d\n", dir, ROUNDS);
	ours = median(&ways[0]);
	for (size_t i = 0; i < ARRAY_LEN(ways); i++)
		printf("%-20s %8.1f ms  %5.2f times memory_fill\n", ways[i].name, median(&ways[i]), median(&ways[i]) / ours);
	return 0;
}

int main(void)
{
	static const char tmpfs[] = "/dev/shm";
	const char *dir = access(tmpfs, W_OK) == 0 ? tmpfs : getenv("TMPDIR") ?: "/tmp";

	if (run(dir) < 0)
		fprintf(stderr, "no figures: %s: %s\n", dir, strerror(errno));
	return 0;
}
