/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/open_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

int file_id_get(struct file_id *ret, int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	*ret = (struct file_id){ st.st_dev, st.st_ino, st.st_mtim };
	return 0;
}

struct wanted {
	const struct file_id *id;
	bool written;
	const char *name;
	uint64_t with, without;
};

static bool same_file(const struct stat *st, const struct wanted *w)
{
	const struct timespec *m = &w->id->modified;

	return st->st_dev == w->id->dev && st->st_ino == w->id->ino && (w->written || (st->st_mtim.tv_sec == m->tv_sec && st->st_mtim.tv_nsec == m->tv_nsec));
}

/* The line "API:\taa:FEATURES:…" of fdinfo has what it was opened with. */
static bool has_features(pid_t pid, const char *number, const struct wanted *w)
{
	unsigned long long features;
	char path[300], line[128];
	bool has = false;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/fdinfo/%s", (int)pid, number);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "API: %*x:%llx:", &features) == 1)
			has = (features & w->with) == w->with && !(features & w->without);
	if (f)
		fclose(f);
	return has;
}

static bool is_wanted(int dir, pid_t pid, const char *number, const struct wanted *w)
{
	char name[64];
	struct stat st;
	ssize_t n;

	if (w->id)
		return !fstatat(dir, number, &st, 0) && same_file(&st, w);
	n = readlinkat(dir, number, name, sizeof name - 1);
	if (n < 0)
		return false;
	name[n] = '\0';
	return !strcmp(name, w->name) && (!w->with || has_features(pid, number, w));
}

static int take(const struct process *p, int number)
{
	int fd = number < 0 ? number : pidfd_getfd(p->pidfd, number, 0);

	return number >= 0 && fd < 0 ? -errno : fd;
}

/* What was looked at by its number may be another one by now: whoever takes it looks at that again, if it matters. */
static int find(const struct process *p, const struct wanted *w)
{
	char path[32];
	struct dirent *e;
	int r = -ENOENT;
	DIR *d;

	snprintf(path, sizeof path, "/proc/%d/fd", (int)p->pid);
	d = opendir(path);
	if (!d)
		return errno == ENOENT ? -ESRCH : -errno;
	while (r == -ENOENT && (e = readdir(d)))
		if (*e->d_name != '.' && is_wanted(dirfd(d), p->pid, e->d_name, w))
			r = atoi(e->d_name);
	closedir(d);
	return r;
}

int open_files_find(const struct process *p, const struct file_id *id, bool written)
{
	return find(p, &(struct wanted){ .id = id, .written = written });
}

/* The line "flags:\t0100002" of fdinfo, octal. */
static bool is_writable(pid_t pid, int number)
{
	unsigned int flags = O_RDONLY;
	char path[64], line[128];
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", (int)pid, number);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f) && sscanf(line, "flags: %o", &flags) != 1)
		;
	if (f)
		fclose(f);
	return (flags & O_ACCMODE) != O_RDONLY;
}

static bool writes(const struct process *p, const struct file_id *id)
{
	int number = open_files_find(p, id, true);

	return number >= 0 && is_writable(p->pid, number);
}

int open_files_find_writer(struct process *ret, const struct file_id *id)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	int r = d ? -ESRCH : -errno;

	while (r == -ESRCH && (e = readdir(d))) {
		pid_t pid = atoi(e->d_name);
		struct process p;
		uint64_t start;

		if (pid <= 0 || pid == getpid() || process_start_time(pid, &start) < 0 || process_adopt(&p, pid, start) < 0)
			continue;
		if (writes(&p, id)) {
			*ret = p;
			r = 0;
		} else {
			process_finish(&p);
		}
	}
	if (d)
		closedir(d);
	return r;
}

int open_files_take(const struct process *p, const struct file_id *id, bool written)
{
	struct wanted w = { .id = id, .written = written };
	struct stat st;
	int fd = take(p, find(p, &w));

	if (fd < 0 || (!fstat(fd, &st) && same_file(&st, &w)))
		return fd;
	close(fd);
	return -ENOENT;
}

int open_files_take_uffd(const struct process *p, uint64_t with, uint64_t without)
{
	return take(p, find(p, &(struct wanted){ .name = "anon_inode:[userfaultfd]", .with = with, .without = without }));
}

int open_files_take_anonymous(const struct process *p, const char *name)
{
	return take(p, find(p, &(struct wanted){ .name = name }));
}
