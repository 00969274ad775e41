/* SPDX-License-Identifier: Apache-2.0
 *
 * One restore after another, and in each the next call of the daemon's fails: see faults.c, which it has preloaded.
 *
 * fault_rounds MOUNT SNAPSHOT CONTROL DAEMON UID memory|calls FIRST STEP COUNT [ROOM]
 *
 * of the n-th calls FIRST, FIRST + STEP … at most COUNT, until there are no more. ROOM is where nothing may be left; VMMs run as UID and the next thousand. Each round makes a fork,
 * restores, removes; then the daemon must have what it had before, and a restore must work. Prints how many calls failed and what the writes said; a line "bad …" is a finding. */
#include <dirent.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tests/tools/faults.h"
#include "tool.h"

#define SETTLE_MS 5000
#define ERRORS 200
#define OF_ONE 2 /* descriptors by which VMMs that wait in a pool may differ */

static const char *snapshot, *room;
static char fork_dir[256], restore[300], state[300], error[300], descriptors[64];
static unsigned int first_uid;
static pid_t daemon_pid;
static struct faults *faults;
static int base_descriptors, base_entries, base_vmms, vmms, now_descriptors, entries;
static unsigned int outcomes[ERRORS];

static void bad(long n, const char *what, const char *more)
{
	printf("bad %ld (%s): %s: %s\n", n, faults->failed, what, more);
}

static char *contents(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	if (fd >= 0)
		close(fd);
	buf[n < 0 ? 0 : n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return buf;
}

/* All but what belongs to the snapshots that were opened last, a few of which are kept on purpose, with who opened them. */
static int count_descriptors(void)
{
	DIR *dir = opendir(descriptors);
	struct dirent *e;
	char target[256];
	int n = 0;

	while (dir && (e = readdir(dir))) {
		ssize_t k = readlinkat(dirfd(dir), e->d_name, target, sizeof target - 1);

		target[k < 0 ? 0 : k] = '\0';
		n += k > 1 && !strstr(target, "vmstate") && !strstr(target, "/snap/");
	}
	if (dir)
		closedir(dir);
	return n;
}

static int count_vmms(void)
{
	DIR *dir = opendir("/proc");
	struct dirent *e;
	struct stat st;
	int n = 0;

	while (dir && (e = readdir(dir)))
		n += *e->d_name >= '1' && *e->d_name <= '9' && !fstatat(dirfd(dir), e->d_name, &st, 0) && st.st_uid >= first_uid && st.st_uid < first_uid + 1000;
	if (dir)
		closedir(dir);
	return n;
}

static int count_entries(const char *path)
{
	DIR *dir = opendir(path);
	int n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

static const char *what_is_left(void)
{
	static char text[160];

	vmms = count_vmms();
	now_descriptors = count_descriptors();
	entries = room ? count_entries(room) : 0;
	if (vmms <= base_vmms && now_descriptors <= base_descriptors && entries <= base_entries)
		return NULL;
	snprintf(text, sizeof text, "%d VMMs instead of %d, %d descriptors instead of %d, %d entries in the state directory instead of %d", vmms, base_vmms, now_descriptors, base_descriptors, entries,
		 base_entries);
	return text;
}

static const char *settle(void)
{
	int64_t end = now_ms() + SETTLE_MS;
	const char *left;

	while ((left = what_is_left()) && now_ms() < end)
		usleep(2000);
	if (left) { /* told once */
		base_vmms = vmms;
		base_descriptors = now_descriptors;
		base_entries = entries;
	}
	return left;
}

/* Returns 0 or an errno. */
static int command(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return errno;
	if (write(fd, text, strlen(text)) < 0)
		r = errno;
	close(fd);
	return r;
}

static bool is_dead(int e)
{
	return e == ENOTCONN || e == ECONNABORTED;
}

static void check_after(long n, int r)
{
	char is[64], why[600];

	if (!*contents(state, is, sizeof is)) /* that open may have been the one */
		contents(state, is, sizeof is);
	if (r == 0 && strcmp(is, "running") && strcmp(is, "failed"))
		bad(n, "restored, and its state is", is);
	if (r && strcmp(is, "failed") && strcmp(is, "empty"))
		bad(n, strerrorname_np(r), is);
	if (r && getenv("VERBOSE"))
		printf("%ld (%s): %s: %s\n", n, faults->failed, strerrorname_np(r), contents(error, why, sizeof why));
	if (!strcmp(is, "failed") && !*contents(error, why, sizeof why) && !*contents(error, why, sizeof why))
		bad(n, strerrorname_np(r) ?: "ok", "no sentence");
}

/* A try that met the fault itself may be repeated. */
static int remove_fork(void)
{
	return rmdir(fork_dir) && rmdir(fork_dir) ? errno : 0;
}

static int restore_unharmed(long n)
{
	char why[600];
	int r = mkdir(fork_dir, 0700) ? errno : command(restore, snapshot);

	if (r)
		bad(n, "the next restore", r == ENOTCONN ? "the daemon is gone" : contents(error, why, sizeof why));
	if (remove_fork())
		bad(n, "its rmdir", strerrorname_np(errno));
	return r;
}

/* Returns false when there was no such call any more, or no daemon. */
static bool one_round(long n, enum fault_kind kind)
{
	const char *left;
	long seen;
	int r;

	*faults->failed = '\0';
	if (mkdir(fork_dir, 0700)) {
		bad(n, "mkdir", strerrorname_np(errno));
		return false;
	}
	atomic_store(&faults->failing, n);
	atomic_store(&faults->seen, 0);
	atomic_store(&faults->armed, kind);
	r = command(restore, snapshot);
	outcomes[r < ERRORS ? r : ERRORS - 1]++;
	if (!is_dead(r))
		check_after(n, r);
	r = is_dead(r) ? r : remove_fork();
	if (r)
		bad(n, "rmdir", strerrorname_np(r));
	left = is_dead(r) ? NULL : settle();
	seen = atomic_load(&faults->seen);
	atomic_store(&faults->armed, FAULT_KINDS);
	if (left)
		bad(n, "left", left);
	if (is_dead(r) || (restore_unharmed(n) && kill(daemon_pid, 0)))
		return false;
	left = settle();
	if (left)
		bad(n, "left of the next one", left);
	return seen >= n;
}

static void report(long failed, long last, const char *kind)
{
	printf("%ld %s failed, the last was number %ld; writes:", failed, kind, last);
	for (int i = 0; i < ERRORS; i++)
		if (outcomes[i])
			printf(" %u %s", outcomes[i], i ? strerrorname_np(i) : "ok");
	printf("\n");
}

int main(int argc, char **argv)
{
	enum fault_kind kind;
	long n, step, failed = 0, count;

	if (argc < 10)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	snapshot = argv[2];
	faults = mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED, must_open(argv[3], O_RDWR), 0);
	if (faults == MAP_FAILED)
		return 2;
	daemon_pid = atoi(argv[4]);
	first_uid = (unsigned int)strtoul(argv[5], NULL, 10);
	kind = strcmp(argv[6], "memory") ? FAULT_CALLS : FAULT_MEMORY;
	n = atol(argv[7]);
	step = atol(argv[8]);
	count = atol(argv[9]);
	room = argc > 10 ? argv[10] : NULL;
	snprintf(fork_dir, sizeof fork_dir, "%s/f", argv[1]);
	snprintf(restore, sizeof restore, "%s/restore", fork_dir);
	snprintf(state, sizeof state, "%s/state", fork_dir);
	snprintf(error, sizeof error, "%s/error", fork_dir);
	snprintf(descriptors, sizeof descriptors, "/proc/%d/fd", (int)daemon_pid);
	base_descriptors = 1 << 20;
	atomic_store(&faults->armed, FAULT_KINDS);
	for (int i = 0; i < 3; i++) /* what is made at the first time is there from now on */
		restore_unharmed(0);
	for (int i = 0, now; i < 50; i = now == base_descriptors ? i + 1 : 0, base_descriptors = now, usleep(10000)) /* and what is going has gone */
		now = count_descriptors();
	base_vmms = count_vmms();
	base_descriptors += base_vmms * OF_ONE;
	base_entries = room ? count_entries(room) : 0;
	for (; failed < count && one_round(n, kind); n += step)
		failed++;
	report(failed, n - step, argv[6]);
	return 0;
}
