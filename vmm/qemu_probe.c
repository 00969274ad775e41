/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu_probe.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#define DEFAULT_BINARY "qemu-system-x86_64"
#define ANSWER_MS 5000
#define MAJOR_MIN 7
#define MINOR_MIN 2

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

/* Runs `binary` with two arguments at most and gives what it printed. Returns 0 or a negative errno. */
static int ask(const char *binary, const char *arg1, const char *arg2, char *buf, size_t n, struct failure *why)
{
	char *argv[] = { (char *)(uintptr_t)binary, (char *)(uintptr_t)arg1, (char *)(uintptr_t)arg2, NULL };
	char *envp[] = { NULL };
	AUTO_CLOSE int from = -1, to = -1;
	struct process p = { .pidfd = -1 };
	int pipes[2], r;
	ssize_t len;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return fail_errno(why, errno, "pipe");
	from = pipes[0];
	to = pipes[1];
	r = process_spawn(&p, &(struct process_spec){ .path = binary, .argv = argv, .envp = envp, .output = to, .netns = -1 }, why);
	if (r < 0)
		return r;
	close_fd(&to);
	len = read_until(from, buf, n - 1, now_ms() + ANSWER_MS);
	process_kill(&p);
	waitid(P_PID, (id_t)p.pid, &(siginfo_t){ 0 }, WEXITED);
	process_finish(&p);
	buf[len < 0 ? 0 : len] = '\0';
	return len < 0 ? fail_errno(why, (int)-len, "%s %s", binary, arg1) : 0;
}

int qemu_version_parse(const char *output, char *ret, size_t n, unsigned int *major, unsigned int *minor)
{
	static const char word[] = "version ";
	const char *at = strstr(output, word);
	unsigned int a, b;

	if (!at || sscanf(at + strlen(word), "%3u.%3u", &a, &b) != 2)
		return -EINVAL;
	at += strlen(word);
	snprintf(ret, n, "%.*s", (int)strspn(at, "0123456789."), at);
	*major = a;
	*minor = b;
	return 0;
}

static int look(const char *binary, bool kvm, struct driver_facts *ret)
{
	unsigned int major, minor;
	char out[4096];
	int r;

	r = ask(binary, "--version", NULL, out, sizeof out, &ret->why);
	if (r == -ENOENT)
		return fail(&ret->why, ENODEV, "no QEMU at %s: install qemu-system-x86, or write its path to config/qemu", binary);
	if (r < 0)
		return r;
	if (qemu_version_parse(out, ret->version, sizeof ret->version, &major, &minor) < 0)
		return fail(&ret->why, ENODEV, "%s doesn't tell its version: is it QEMU?", binary);
	if (major < MAJOR_MIN || (major == MAJOR_MIN && minor < MINOR_MIN))
		return fail(&ret->why, ENODEV, "%s is QEMU %s: at least %d.%d is needed", binary, ret->version, MAJOR_MIN, MINOR_MIN);
	ret->accel_kvm = kvm && ask(binary, "-accel", "help", out, sizeof out, NULL) == 0 && strstr(out, "kvm");
	return 0;
}

void qemu_probe(const char *binary, bool kvm, struct driver_facts *ret)
{
	if (!binary || !*binary)
		binary = DEFAULT_BINARY;
	*ret = (struct driver_facts){ 0 };
	snprintf(ret->binary, sizeof ret->binary, "%s", binary);
	ret->usable = look(binary, kvm, ret) == 0;
	ret->why.code = ret->usable ? 0 : ENODEV;
}
