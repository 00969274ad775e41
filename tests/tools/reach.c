/* SPDX-License-Identifier: Apache-2.0 */
#include "reach.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PID_MAX 65536
#define THREADS_MAX 512
#define LOCKED (1u << 20)

static void tell(const char *what, const char *of, long result)
{
	dprintf(STDERR_FILENO, "reach %s %s: %s\n", what, of, result < 0 ? strerrorname_np(errno) : "done");
}

static void open_one(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	tell(flags == O_RDONLY ? "reads" : "writes", path, fd);
	if (fd >= 0)
		close(fd);
}

static void connect_tcp(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(22), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	tell("connects to", "127.0.0.1", fd < 0 ? fd : connect(fd, (const struct sockaddr *)&to, sizeof to));
	close(fd);
}

/* Where the test listens. */
static void connect_unix(const char *name, bool abstract)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t len = strlen(name);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(to.sun_path + abstract, name, len);
	tell("connects to", abstract ? "an abstract socket" : "a socket", connect(fd, (const struct sockaddr *)&to, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + abstract)));
	close(fd);
}

/* All others there are, whoever they belong to. */
static void reach_processes(void)
{
	long signalled = 0, traced = 0, read_of = 0;
	char byte;

	for (pid_t pid = 1; pid < PID_MAX; pid++) {
		if (pid == getpid())
			continue;
		signalled += kill(pid, 0) == 0;
		traced += ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0;
		read_of += process_vm_readv(pid, &(struct iovec){ &byte, 1 }, 1, &(struct iovec){ (void *)&reach_processes, 1 }, 1, 0) == 1;
	}
	dprintf(STDERR_FILENO, "reach processes: %ld signalled, %ld traced, %ld read\n", signalled, traced, read_of);
}

/* Processes that do nothing, as many as there may be. */
static void multiply(void)
{
	static pid_t made[2 * THREADS_MAX];
	int n = 0;

	while (n < (int)(sizeof made / sizeof *made) && (made[n] = fork()) > 0)
		n++;
	if (n < (int)(sizeof made / sizeof *made) && !made[n])
		for (;;)
			pause();
	tell("makes", "1024 processes", n < (int)(sizeof made / sizeof *made) ? -1 : 0);
	while (n)
		kill(made[--n], SIGKILL);
	while (wait(NULL) > 0)
		;
}

static void lock_memory(void)
{
	void *at = mmap(NULL, LOCKED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	tell("locks", "a MiB", mlock(at, LOCKED));
	munmap(at, LOCKED);
}

void reach(const char *program)
{
	char socket_name[100];

	snprintf(socket_name, sizeof socket_name, "%s.sock", program);
	open_one("/etc/passwd", O_RDONLY);
	open_one("/proc/1/environ", O_RDONLY);
	open_one("/proc/1/root/etc/passwd", O_RDONLY);
	open_one("/dev/kvm", O_RDWR);
	open_one("/dev/net/tun", O_RDWR);
	open_one("/tmp/forkfs-reached", O_WRONLY | O_CREAT);
	open_one("/proc/self/oom_score_adj", O_WRONLY);
	connect_tcp();
	connect_unix(socket_name, false);
	connect_unix(socket_name, true);
	tell("becomes", "root", setuid(0));
	tell("mounts on", "/usr", mount("none", "/usr", "tmpfs", 0, NULL));
	tell("changes the root to", "/usr", chroot("/usr"));
	tell("joins", "a network", setns(open("/proc/1/ns/net", O_RDONLY | O_CLOEXEC), CLONE_NEWNET));
	tell("rises above", "others", setpriority(0, 0, -5));
	reach_processes();
	multiply();
	lock_memory();
	dprintf(STDERR_FILENO, "reach: through\n");
}
