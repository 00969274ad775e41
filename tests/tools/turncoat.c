/* SPDX-License-Identifier: Apache-2.0
 *
 * turncoat UID FILE TEXT ROUNDS: run by root. In each round a process has a thread that becomes UID where files are concerned, opens FILE and writes TEXT and a newline, while its main thread
 * makes all threads root's again in every other round, and after a moment that is another in each kills them all. Prints how many writes went through. */
#include <pthread.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tool.h"

static char **args;
static unsigned int *written;
static bool begun;

static void *writer(void *arg)
{
	uid_t uid = (uid_t)atoi(args[1]);
	char line[4096];
	int fd, n = snprintf(line, sizeof line, "%s\n", args[3]);

	(void)arg;
	syscall(SYS_setgroups, 0, NULL);
	syscall(SYS_setfsgid, uid);
	syscall(SYS_setfsuid, uid);
	fd = open(args[2], O_WRONLY | O_CLOEXEC);
	__atomic_store_n(&begun, true, __ATOMIC_RELEASE);
	if (fd >= 0 && write(fd, line, (size_t)n) == n)
		__atomic_add_fetch(written, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void one_round(int i)
{
	pthread_t thread;

	alarm(20);
	if (pthread_create(&thread, NULL, writer, NULL))
		_exit(1);
	while (!__atomic_load_n(&begun, __ATOMIC_ACQUIRE))
		;
	usleep((useconds_t)(i % 7) * 50);
	if (i % 2 == 0 && (setresgid(0, 0, 0) || setresuid(0, 0, 0))) /* by the C library: of every thread */
		_exit(1);
	usleep((useconds_t)(i % 11) * 300);
	kill(getpid(), SIGKILL);
}

int main(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	args = argv;
	written = mmap(NULL, sizeof *written, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < atoi(argv[4]); i++) {
		pid_t pid = fork();

		if (pid == 0)
			one_round(i);
		waitpid(pid, NULL, 0);
	}
	printf("%u\n", *written);
	return 0;
}
