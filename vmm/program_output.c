/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/program_output.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <time.h>

#include "vmm/process.h"

#define ANSWER_MS 5000

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Returns how many bytes came before the end, -ETIMEDOUT when there was none. */
static ssize_t read_until(int fd, char *buf, size_t n, int64_t deadline)
{
	struct pollfd poller = { .fd = fd, .events = POLLIN };
	size_t len = 0;

	while (len < n) {
		int64_t left = deadline - now_ms();
		ssize_t got;

		if (left <= 0 || poll(&poller, 1, (int)left) == 0)
			return -ETIMEDOUT;
		got = read(fd, buf + len, n - len);
		if (got == 0)
			break;
		if (got > 0)
			len += (size_t)got;
		else if (errno != EINTR)
			return -errno;
	}
	return (ssize_t)len;
}

int program_output(const char *path, const char *arg1, const char *arg2, char *buf, size_t n, struct failure *why)
{
	char *argv[] = { (char *)(uintptr_t)path, (char *)(uintptr_t)arg1, (char *)(uintptr_t)arg2, NULL };
	char *envp[] = { NULL };
	AUTO_CLOSE int from = -1, to = -1;
	struct process p = { .pidfd = -1 };
	int pipes[2], r;
	ssize_t len;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return fail_errno(why, errno, "pipe");
	from = pipes[0];
	to = pipes[1];
	r = process_spawn(&p, &(struct process_spec){ .path = path, .argv = argv, .envp = envp, .output = to, .netns = -1 }, why);
	if (r < 0)
		return r;
	close_fd(&to);
	len = read_until(from, buf, n - 1, now_ms() + ANSWER_MS);
	process_end(&p);
	buf[len < 0 ? 0 : len] = '\0';
	return len < 0 ? fail_errno(why, (int)-len, "%s %s", path, arg1) : 0;
}
