/* SPDX-License-Identifier: Apache-2.0
 *
 * Looks from outside whether a guest stands still: the guest (examples/guest/sum.c) counts on every few microseconds in a page that begins with a magic word.
 *
 *     pulse find FILE           prints where in a file of the guest's RAM that page is; holes are left as they are
 *     pulse watch PID OFFSET    watches it, or the number 16 bytes behind any offset, in the VMM with that process id. Answers every line on standard input with the longest standstill since
 *                               the one before, in milliseconds; ends with standard input.
 *
 * A standstill is the time between the first and the last look that found the same number: too short by up to two looks, and never too long, however long this process
 * itself had to wait for a processor. */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define BLOCK (1u << 20)
#define BEATS 16 /* where in the page the number is, behind the magic word */
#define LOOK_NSEC 200000 /* each look takes its processor from whoever is on it, who may be watched */

static const char magic[BEATS] = "forkfs pulse 1\n";

static bool find_in(int fd, off_t at, off_t end)
{
	static char buf[BLOCK];
	ssize_t n;

	for (at &= ~(off_t)(PAGE - 1); at < end && (n = pread(fd, buf, sizeof buf, at)) > 0; at += n)
		for (ssize_t i = 0; i + PAGE <= n; i += PAGE)
			if (!memcmp(buf + i, magic, sizeof magic)) {
				printf("%lld\n", (long long)(at + i));
				return true;
			}
	return false;
}

static int find(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t at = 0, hole;

	while (fd >= 0 && (at = lseek(fd, at, SEEK_DATA)) >= 0 && (hole = lseek(fd, at, SEEK_HOLE)) > at) {
		if (find_in(fd, at, hole))
			return 0;
		at = hole;
	}
	fprintf(stderr, "%s: no pulse in it\n", path);
	return 1;
}

struct pulse {
	pid_t pid;
	uintptr_t at;                   /* of the number in the VMM, by way of which it is read when … */
	const volatile uint64_t *beats; /* … this is NULL: a shared mapping's page is mapped here */
};

/* Only the one page is mapped: looking at a hole by way of a mapping would fill it. */
static bool map_here(struct pulse *p, unsigned long from, unsigned long to, uint64_t offset)
{
	char path[96];
	void *page = MAP_FAILED;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/map_files/%lx-%lx", p->pid, from, to);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, (off_t)(offset / PAGE * PAGE));
	if (page == MAP_FAILED) {
		perror(path);
		return false;
	}
	p->beats = (const uint64_t *)((const char *)page + offset % PAGE + BEATS);
	return true;
}

/* A memfd of forkfs, or what a snapshot in memory has. */
static bool is_ram(const char *line)
{
	return strstr(line, "/memfd:forkfs:") || strstr(line, "/memory.bin");
}

static bool find_mapping(struct pulse *p, uint64_t offset)
{
	char path[64], line[512], access[8];
	unsigned long from, to, at;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/maps", p->pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		if (is_ram(line) && sscanf(line, "%lx-%lx %7s %lx", &from, &to, access, &at) == 4 && offset >= at &&
		    offset < at + (to - from)) {
			fclose(f);
			p->at = from + (offset - at) + BEATS;
			return access[3] != 's' || map_here(p, from, to, offset);
		}
	fprintf(stderr, "%s: no such offset of a guest's RAM\n", path);
	return false;
}

static uint64_t look(const struct pulse *p)
{
	uint64_t n = 0;
	struct iovec here = { &n, sizeof n }, there = { (void *)p->at, sizeof n };

	if (p->beats)
		return *p->beats;
	if (process_vm_readv(p->pid, &here, 1, &there, 1, 0) != (ssize_t)sizeof n) {
		perror("process_vm_readv");
		exit(1);
	}
	return n;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Not to be kept waiting by what is watched. */
static void hurry(void)
{
	prctl(PR_SET_TIMERSLACK, 1);
	sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ .sched_priority = 1 });
}

static int watch(struct pulse *p)
{
	struct pollfd in = { .fd = 0, .events = POLLIN };
	const struct timespec pause = { .tv_nsec = LOOK_NSEC };
	uint64_t last = look(p);
	double since = now(), longest = 0;
	char line[64];

	for (;;) {
		int ready = ppoll(&in, 1, &pause, NULL);
		double t = now(); /* before the look: the number was still the same then */
		uint64_t n = look(p);

		if (n != last) {
			last = n;
			since = now();
		} else if (t - since > longest) {
			longest = t - since;
		}
		if (ready <= 0)
			continue;
		if (read(0, line, sizeof line) <= 0)
			return 0;
		printf("%.3f\n", longest);
		fflush(stdout);
		longest = 0;
		since = now();
	}
}

int main(int argc, char **argv)
{
	struct pulse p = { 0 };

	if (argc == 3 && !strcmp(argv[1], "find"))
		return find(argv[2]);
	if (argc != 4 || strcmp(argv[1], "watch")) {
		fprintf(stderr, "usage: pulse find FILE | pulse watch PID OFFSET\n");
		return 2;
	}
	p.pid = (pid_t)strtol(argv[2], NULL, 10);
	if (!find_mapping(&p, strtoull(argv[3], NULL, 10)))
		return 1;
	hurry();
	return watch(&p);
}
