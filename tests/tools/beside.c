/* SPDX-License-Identifier: Apache-2.0
 *
 * beside FILE TEXT: one thread waits in a read of a conversation, another writes TEXT and a newline into the same descriptor. Prints "write ok" when that went
 * through while the read still waited (or "write" and an errno), then what the read gave. */
#include <pthread.h>

#include "tool.h"

static int fd;
static pid_t tid;

static void *reader(void *arg)
{
	static char buf[4096];
	ssize_t n;

	(void)arg;
	__atomic_store_n(&tid, gettid(), __ATOMIC_RELEASE);
	n = read(fd, buf, sizeof buf - 1);
	if (n < 0)
		printf("read %s\n", outcome(n));
	else
		printf("%s", buf);
	return NULL;
}

int main(int argc, char **argv)
{
	char line[4096];
	pthread_t thread;
	ssize_t n;
	int size;

	if (argc != 3)
		return 2;
	setvbuf(stdout, NULL, _IONBF, 0);
	fd = must_open(argv[1], O_RDWR);
	if (pthread_create(&thread, NULL, reader, NULL))
		return 1;
	/* Until the other thread sleeps in the kernel. */
	for (int64_t end = now_ms() + 5000; !in_read(__atomic_load_n(&tid, __ATOMIC_ACQUIRE)) && now_ms() < end; usleep(5000))
		;
	size = snprintf(line, sizeof line, "%s\n", argv[2]);
	n = write(fd, line, (size_t)size);
	printf("write %s\n", outcome(n));
	pthread_join(thread, NULL);
	return 0;
}
