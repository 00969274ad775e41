/* SPDX-License-Identifier: Apache-2.0
 *
 * Users beside each other who do what comes to their minds, for a while: users MOUNT SECONDS SEED COUNT SNAPSHOT...
 *
 * Each has a uid of its own, makes forks, restores, snapshots, renames, shares, reads, talks, removes, and knows what was acknowledged: a fork is there until its rmdir was; its memory has the mark
 * that was written last, or its snapshot's, which is 0 (with $MARKS=no that isn't looked at: a real guest has its own there); another user's is not to be written. What doesn't hold is a line "bad …"; at the end all forks are looked for and removed, and figures printed. The mount
 * has allow_other and mem_write. */
#include <dirent.h>
#include <grp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tool.h"

#define FIRST_UID 23000
#define FORKS 5
#define MARK_AT (3 << 20)
#define ERRNOS 200
#define USERS_MAX 64

enum op { MAKE, CLONE, MANY, RESTORE, SHOOT, DROP, FORK, RENAME, TURN, SHARE, READ, TALK, MARK, LOOK, TRESPASS, REMOVE, OPS };

static const char *const names[OPS] = { "mkdir", "clone", "many", "restore", "snapshot", "drop", "fork of a fork", "rename", "turn", "chmod", "read", "talk", "mark", "list", "trespass", "rmdir" };

struct figures {
	unsigned long done[OPS], refused[OPS], bad;
};

struct fork {
	char name[40];
	bool restored, has_shot;
	uint64_t mark, shot_mark;
};

static const char *mount, *const *snapshots;
static bool no_marks;
static int snapshot_count, me, users;
static unsigned int rng;
static struct figures *figures, *mine;
static struct fork forks[FORKS];
static unsigned int serial;
static char path[512];

static unsigned int pick(unsigned int n)
{
	return (unsigned int)rand_r(&rng) % n;
}

static const char *in(const struct fork *f, const char *rest)
{
	snprintf(path, sizeof path, "%s/%s%s%s", mount, f->name, *rest ? "/" : "", rest);
	return path;
}

static void bad(const char *what, const char *of, const char *why)
{
	mine->bad++;
	printf("bad user %d, %s of %s: %s\n", me, what, of, why);
}

/* Notes an outcome; `allowed` are the errnos that are no finding, 0-terminated. Returns whether it was done. */
static bool outcome_is(enum op op, const char *of, int e, const int *allowed)
{
	if (!e) {
		mine->done[op]++;
		return true;
	}
	mine->refused[op]++;
	for (; *allowed; allowed++)
		if (*allowed == e)
			return false;
	bad(names[op], of, strerrorname_np(e));
	return false;
}

#define ALLOW(...) ((const int[]){ __VA_ARGS__, 0 })
#define NOTHING ((const int[]){ 0 })

/* One write. Returns 0 or an errno. */
static int command(const char *to, const char *text)
{
	int fd = open(to, O_WRONLY | O_CLOEXEC), e = 0;

	if (fd < 0)
		return errno;
	if (write(fd, text, strlen(text)) < 0)
		e = errno;
	close(fd);
	return e;
}

static struct fork *some(bool there)
{
	unsigned int from = pick(FORKS);

	for (unsigned int i = 0; i < FORKS; i++) {
		struct fork *f = &forks[(from + i) % FORKS];

		if ((*f->name != '\0') == there)
			return f;
	}
	return NULL;
}

static uint64_t read_mark(const struct fork *f, const char *file)
{
	uint64_t mark = UINT64_MAX;
	int fd = open(in(f, file), O_RDONLY | O_CLOEXEC);

	if (fd < 0 || pread(fd, &mark, sizeof mark, MARK_AT) != sizeof mark)
		mark = UINT64_MAX;
	if (fd >= 0)
		close(fd);
	return mark;
}

static void check_mark(enum op op, const struct fork *f, const char *file, uint64_t expected)
{
	uint64_t mark = read_mark(f, file);
	char text[100];

	if (no_marks || mark == expected)
		return;
	snprintf(text, sizeof text, "%s has the mark %#llx instead of %#llx", file, (unsigned long long)mark, (unsigned long long)expected);
	bad(names[op], f->name, text);
}

static void check_there(enum op op, const struct fork *f)
{
	struct stat st;

	if (stat(in(f, ""), &st))
		bad(names[op], f->name, "was acknowledged and is not there");
	else if (st.st_uid != FIRST_UID + (unsigned int)me)
		bad(names[op], f->name, "is somebody else's");
}

/* --- operations ------------------------------------------------------------------------------------------------------------------- */

static void make(struct fork *f)
{
	snprintf(f->name, sizeof f->name, "u%d-%u", me, serial++);
	f->restored = f->has_shot = false;
	if (!outcome_is(MAKE, f->name, mkdir(in(f, ""), 0700) ? errno : 0, NOTHING))
		*f->name = '\0';
	else
		check_there(MAKE, f);
}

static void clone_one(struct fork *f)
{
	ssize_t n;
	int fd, e = 0;

	snprintf(path, sizeof path, "%s/clone", mount);
	fd = open(path, O_RDWR | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, f->name, sizeof f->name - 1);
	e = n < 0 ? errno : 0;
	if (fd >= 0)
		close(fd);
	f->name[n < 0 ? 0 : n] = '\0';
	f->name[strcspn(f->name, "\n")] = '\0';
	f->restored = f->has_shot = false;
	if (outcome_is(CLONE, f->name, e, NOTHING))
		check_there(CLONE, f);
}

static void restored(struct fork *f, uint64_t mark)
{
	f->restored = true;
	f->mark = mark;
	check_mark(RESTORE, f, "mem", mark);
}

/* Two at once, or none: the second is removed again. */
static void many(struct fork *f)
{
	struct fork second = { .name = "" };
	char text[512], root[300];
	int e;

	snprintf(root, sizeof root, "%s/restore", mount);
	snprintf(f->name, sizeof f->name, "u%d-%u-0", me, serial);
	snprintf(second.name, sizeof second.name, "u%d-%u-1", me, serial);
	snprintf(text, sizeof text, "%s 2 u%d-%u-\n", snapshots[pick((unsigned int)snapshot_count)], me, serial++);
	f->has_shot = false;
	e = command(root, text);
	if (!outcome_is(MANY, f->name, e, NOTHING)) {
		*f->name = '\0';
		return;
	}
	restored(f, 0);
	check_there(MANY, &second);
	outcome_is(REMOVE, second.name, rmdir(in(&second, "")) ? errno : 0, NOTHING);
}

static void restore(struct fork *f)
{
	char text[512];

	snprintf(text, sizeof text, "%s\n", snapshots[pick((unsigned int)snapshot_count)]);
	if (outcome_is(RESTORE, f->name, command(in(f, "restore"), text), f->restored ? ALLOW(EBUSY) : NOTHING))
		restored(f, 0);
}

/* Of one that runs, or stands still; it has what is marked now. */
static void shoot(struct fork *f)
{
	if (!f->restored || f->has_shot)
		return;
	if (!outcome_is(SHOOT, f->name, mkdir(in(f, "snapshots/s"), 0700) ? errno : 0, NOTHING))
		return;
	f->has_shot = true;
	f->shot_mark = f->mark;
	check_mark(SHOOT, f, "snapshots/s/memory.bin", f->mark);
}

static void drop(struct fork *f)
{
	if (f->has_shot && outcome_is(DROP, f->name, rmdir(in(f, "snapshots/s")) ? errno : 0, NOTHING))
		f->has_shot = false;
}

static void fork_it(struct fork *f)
{
	struct fork *child = some(false);
	char text[600];

	if (!f->has_shot || !child)
		return;
	make(child);
	if (!*child->name)
		return;
	snprintf(text, sizeof text, "%s\n", in(f, "snapshots/s"));
	if (outcome_is(FORK, child->name, command(in(child, "restore"), text), NOTHING))
		restored(child, f->shot_mark);
}

static void rename_it(struct fork *f)
{
	struct fork to = *f;
	char from[512];

	snprintf(to.name, sizeof to.name, "u%d-%u", me, serial++);
	snprintf(from, sizeof from, "%s", in(f, ""));
	if (!outcome_is(RENAME, f->name, rename(from, in(&to, "")) ? errno : 0, NOTHING))
		return;
	*f = to;
	check_there(RENAME, f);
}

/* One that was stopped has ended and may be restored anew. */
static void turn(struct fork *f)
{
	static const char *const to[] = { "paused\n", "running\n", "paused\n", "running\n", "stopped\n" };
	unsigned int i = pick(5);

	if (outcome_is(TURN, f->name, command(in(f, "state"), to[i]), f->restored ? NOTHING : ALLOW(EBUSY)) && i == 4)
		f->restored = false;
}

static void read_all(struct fork *f)
{
	static const char *const files[] = { "state", "status", "maps", "dirty", "console", "log", "error", "restore", "config/vmm", "snapshots" };
	char buf[4096];

	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		int fd = open(in(f, files[i]), O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof buf);

		outcome_is(READ, path, fd < 0 || (n < 0 && errno != EISDIR) ? errno : 0, ALLOW(EBUSY, ENOENT, ESRCH));
		if (fd >= 0)
			close(fd);
	}
}

static void talk(struct fork *f)
{
	char text[64], heard[8192];
	int fd = open(in(f, "console"), O_RDWR | O_NONBLOCK | O_CLOEXEC);

	snprintf(text, sizeof text, "hello %u\n", serial++);
	outcome_is(TALK, f->name, fd < 0 || write(fd, text, strlen(text)) < 0 ? errno : 0, ALLOW(EBUSY, EAGAIN));
	if (fd >= 0 && read(fd, heard, sizeof heard) < 0 && errno != EAGAIN)
		outcome_is(TALK, f->name, errno, NOTHING);
	if (fd >= 0)
		close(fd);
}

static void mark(struct fork *f)
{
	uint64_t value = (uint64_t)me << 32 | serial++;
	int fd, e;

	if (!f->restored || no_marks)
		return;
	fd = open(in(f, "mem"), O_RDWR | O_CLOEXEC);
	e = fd < 0 || pwrite(fd, &value, sizeof value, MARK_AT) != sizeof value ? errno : 0;
	if (fd >= 0)
		close(fd);
	if (!outcome_is(MARK, f->name, e, NOTHING))
		return;
	f->mark = value;
	check_mark(MARK, f, "mem", value);
	if (f->has_shot)
		check_mark(MARK, f, "snapshots/s/memory.bin", f->shot_mark);
}

static void look(void)
{
	DIR *dir = opendir(mount);
	char buf[4096];
	int fd;

	outcome_is(LOOK, mount, dir ? 0 : errno, NOTHING);
	while (dir && readdir(dir))
		;
	if (dir)
		closedir(dir);
	snprintf(path, sizeof path, "%s/events", mount);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && read(fd, buf, sizeof buf) > 0)
		;
	if (fd >= 0)
		close(fd);
}

/* Into somebody else's, which may be shared for reading, never more. */
static void trespass(void)
{
	DIR *dir = opendir(mount);
	struct dirent *e;
	char own[16];

	snprintf(own, sizeof own, "u%d-", me);
	while (dir && (e = readdir(dir))) {
		struct fork other = { .name = "" };

		if (*e->d_name != 'u' || !strncmp(e->d_name, own, strlen(own)) || pick(3) || snprintf(other.name, sizeof other.name, "%s", e->d_name) >= (int)sizeof other.name)
			continue;
		if (command(in(&other, "state"), "stopped\n") == 0 || !rmdir(in(&other, "")) || !chmod(in(&other, ""), 0777))
			bad(names[TRESPASS], other.name, "was let in");
		mine->done[TRESPASS]++;
		break;
	}
	if (dir)
		closedir(dir);
}

static void remove_it(struct fork *f)
{
	check_there(REMOVE, f);
	if (f->restored)
		check_mark(REMOVE, f, "mem", f->mark);
	if (outcome_is(REMOVE, f->name, rmdir(in(f, "")) ? errno : 0, NOTHING))
		*f->name = '\0';
}

static void act(void)
{
	static void (*const makers[])(struct fork *) = { make, clone_one, many };
	static void (*const others[OPS])(struct fork *) = { [RESTORE] = restore, [SHOOT] = shoot, [DROP] = drop, [FORK] = fork_it, [RENAME] = rename_it, [TURN] = turn,
							    [READ] = read_all, [TALK] = talk, [MARK] = mark, [REMOVE] = remove_it };
	enum op op = pick(OPS);
	struct fork *f = some(op > MANY);

	if (op == LOOK)
		look();
	else if (op == TRESPASS)
		trespass();
	else if (op <= MANY && f)
		makers[op](f);
	else if (op == SHARE && f)
		outcome_is(SHARE, f->name, chmod(in(f, ""), pick(2) ? 0755 : 0700) ? errno : 0, NOTHING);
	else if (f)
		others[op](f);
}

static void user(int i, int64_t end, unsigned int seed)
{
	me = i;
	mine = &figures[i];
	rng = seed * 1000 + (unsigned int)i;
	if (setgroups(0, NULL) || setgid(FIRST_UID + (unsigned int)i) || setuid(FIRST_UID + (unsigned int)i)) {
		bad("setuid", "it", strerrorname_np(errno));
		return;
	}
	while (now_ms() < end && mine->bad < 20)
		act();
	for (struct fork *f = forks; f < forks + FORKS; f++)
		if (*f->name)
			remove_it(f);
}

static void report(int seconds)
{
	unsigned long all = 0, findings = 0;

	for (enum op op = 0; op < OPS; op++) {
		unsigned long done = 0, refused = 0;

		for (int i = 0; i < users; i++) {
			done += figures[i].done[op];
			refused += figures[i].refused[op];
		}
		all += done + refused;
		printf("%-16s %lu done, %lu refused\n", names[op], done, refused);
	}
	for (int i = 0; i < users; i++)
		findings += figures[i].bad;
	printf("%lu operations of %d users in %d s, %lu findings\n", all, users, seconds, findings);
}

int main(int argc, char **argv)
{
	int64_t end;

	if (argc < 6 || (users = atoi(argv[4])) < 1 || users > USERS_MAX)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	mount = argv[1];
	no_marks = getenv("MARKS") && !strcmp(getenv("MARKS"), "no");
	snapshots = (const char *const *)argv + 5;
	snapshot_count = argc - 5;
	figures = mmap(NULL, USERS_MAX * sizeof *figures, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (figures == MAP_FAILED)
		return 2;
	end = now_ms() + atoll(argv[2]) * 1000;
	for (int i = 0; i < users; i++)
		if (fork() == 0) {
			user(i, end, (unsigned int)atoi(argv[3]));
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	report(atoi(argv[2]));
	return 0;
}
