/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/keeper.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/io.h"
#include "vmm/base/log.h"
#include "vmm/helper.h"
#include "vmm/open_files.h"

#define RECORD_MAX 256

struct keeper {
	struct job job;
	struct process process;
	char record[NAME_MAX + 1]; /* its name */
};

static int records = -1;
static const char *state_path;
static struct jobs *workers; /* set and cleared while nobody else is there */
static bool leaving;

void keepers_end_by(struct jobs *jobs)
{
	workers = jobs;
}

int keepers_open(int state, const char *path)
{
	state_path = path;
	if (mkdirat(state, "kept", 0700) && errno != EEXIST)
		return -errno;
	records = openat(state, "kept", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return records < 0 ? -errno : 0;
}

void keepers_close(void)
{
	close_fd(&records);
}

void keepers_leave(void)
{
	leaving = true;
}

/* --- beginning ---------------------------------------------------------------------------------------------------------------------------- */

/* `word`: where it hears whether it is to go on when the daemon ends. */
static int spawn(struct process *ret, int program, int fd, int word, struct failure *why)
{
	AUTO_CLOSE int output = open("/dev/null", O_WRONLY | O_CLOEXEC);
	const int streams[] = { word, output };
	char path[40];
	char *argv[] = { (char *)(uintptr_t)HELPER_KEEPER, (char *)(uintptr_t)state_path, NULL }, *envp[] = { NULL };
	struct process_spec spec = { .path = path, .argv = argv, .envp = envp, .fds = &fd, .fd_count = 1, .output = output, .streams = streams, .netns = -1 };

	if (output < 0)
		return fail_errno(why, errno, "open /dev/null");
	snprintf(path, sizeof path, "/proc/self/fd/%d", program);
	return process_spawn(ret, &spec, why);
}

/* "PID START DEVICE INODE\n" */
static int write_record(const struct keeper *k, int fd)
{
	struct file_id id;
	char line[RECORD_MAX];
	int r = file_id_get(&id, fd);

	if (r < 0)
		return r;
	snprintf(line, sizeof line, "%d %llu %llu %llu\n", (int)k->process.pid, (unsigned long long)k->process.start_time, (unsigned long long)id.dev,
		 (unsigned long long)id.ino);
	return write_anew(records, k->record, line);
}

static int start(struct keeper *k, int fd, struct failure *why)
{
	AUTO_CLOSE int program = helper_open(HELPER_KEEPER, why), word = -1, say = -1;
	int r, ends[2];

	if (program < 0)
		return program;
	if (pipe2(ends, O_CLOEXEC))
		return fail_errno(why, errno, "a pipe");
	word = ends[0];
	say = ends[1];
	r = spawn(&k->process, program, fd, word, why);
	if (r < 0)
		return r;
	snprintf(k->record, sizeof k->record, "%d", (int)k->process.pid);
	r = write_record(k, fd);
	if (r == 0)
		r = write_all(say, "", 1);
	if (r == 0)
		return 0;
	unlinkat(records, k->record, 0);
	process_end(&k->process);
	return fail_errno(why, -r, "its record");
}

int keeper_start(struct keeper **ret, int fd, struct failure *why)
{
	struct keeper *k = calloc(1, sizeof *k);
	int r = k ? start(k, fd, why) : fail(why, ENOMEM, "no memory");

	if (r < 0) {
		free(k);
		return fail_within(why, "a process that keeps the memory");
	}
	*ret = k;
	return 0;
}

/* --- ending ------------------------------------------------------------------------------------------------------------------------------- */

static void end_run(struct job *job)
{
	struct keeper *k = container_of(job, struct keeper, job);

	unlinkat(records, k->record, 0);
	process_end(&k->process);
}

static void end_done(struct job *job)
{
	free(container_of(job, struct keeper, job));
}

void keeper_end(struct keeper *k)
{
	if (!k)
		return;
	if (leaving) {
		process_finish(&k->process);
		free(k);
	} else if (workers) {
		k->job.run = end_run;
		k->job.done = end_done;
		jobs_submit(workers, &k->job);
	} else {
		end_run(&k->job);
		free(k);
	}
}

/* --- taking over -------------------------------------------------------------------------------------------------------------------------- */

static int take(struct keeper *k, int *ret_fd)
{
	AUTO_CLOSE int file = openat(records, k->record, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	AUTO_FREE char *line = NULL;
	unsigned long long start, device, inode;
	struct file_id id = { 0 };
	size_t n;
	int pid, r = file < 0 ? -errno : read_file(file, RECORD_MAX, &line, &n);

	if (r < 0)
		return r;
	if (sscanf(line, "%d %llu %llu %llu", &pid, &start, &device, &inode) != 4)
		return -EINVAL;
	id.dev = device;
	id.ino = inode;
	r = process_adopt(&k->process, pid, start);
	if (r < 0)
		return r;
	r = open_files_take(&k->process, &id, true);
	if (r < 0) {
		process_end(&k->process);
		return r;
	}
	*ret_fd = r;
	return 0;
}

struct finder {
	void (*found)(struct keeper *k, int fd, void *data);
	void *data;
};

static void adopt(const char *name, const struct finder *f)
{
	struct keeper *k = calloc(1, sizeof *k);
	int fd = -1, r = -ENOMEM;

	if (k) {
		snprintf(k->record, sizeof k->record, "%s", name);
		r = take(k, &fd);
	}
	if (r == 0) {
		f->found(k, fd, f->data);
		return;
	}
	if (r != -ESRCH)
		log_warn("memory that the former daemon left to a process can't be taken over: %s", strerror(-r));
	unlinkat(records, name, 0);
	free(k);
}

/* A name that is no number is half written: that process was never told to go on. */
static void each_record(int dir, const char *name, void *data)
{
	if (strspn(name, "0123456789") == strlen(name))
		adopt(name, data);
	else
		unlinkat(dir, name, 0);
}

void keepers_adopt(void (*found)(struct keeper *k, int fd, void *data), void *data)
{
	each_name(openat(records, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), each_record, &(struct finder){ found, data });
}
