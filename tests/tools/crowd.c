/* SPDX-License-Identifier: Apache-2.0
 *
 * crowd FILE COUNT DIRECTORY: COUNT threads wait in reads of conversations with FILE; while all of them do, DIRECTORY is listed and each name in it looked at. Prints how many
 * waited, "listed" and the names' number, then ends with all of the reads still waiting. */
#include <dirent.h>
#include <pthread.h>
#include <sys/stat.h>

#include "tool.h"

static const char *path;
static int failed;

static void *reader(void *arg)
{
	pid_t *tid = arg;
	char buf[64];
	int fd = open(path, O_RDWR | O_CLOEXEC);

	*tid = gettid();
	if (fd < 0 || read(fd, buf, sizeof buf) < 0)
		__atomic_add_fetch(&failed, 1, __ATOMIC_RELAXED);
	return NULL;
}

int main(int argc, char **argv)
{
	int count, waiting = 0, names = 0;
	pthread_attr_t small;
	struct dirent *entry;
	struct stat st;
	int64_t end, start;
	pid_t *tids;
	DIR *dir;

	if (argc != 4 || (count = atoi(argv[2])) < 1)
		return 2;
	path = argv[1];
	tids = calloc((size_t)count, sizeof *tids);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 64 << 10);
	for (int i = 0; tids && i < count; i++) {
		pthread_t thread;
		if (pthread_create(&thread, &small, reader, &tids[i]))
			return 1;
	}
	for (end = now_ms() + 20000; waiting < count && now_ms() < end; usleep(10000)) {
		waiting = 0;
		for (int i = 0; i < count; i++)
			waiting += tids[i] && in_read(tids[i]);
	}
	printf("%d waiting, %d failed\n", waiting, failed);
	start = now_ms();
	dir = opendir(argv[3]);
	if (!dir) {
		printf("opendir %s\n", outcome(-1));
		return 0;
	}
	while ((entry = readdir(dir)))
		names += entry->d_name[0] != '.' && fstatat(dirfd(dir), entry->d_name, &st, 0) == 0;
	printf("listed %d\n", names);
	fprintf(stderr, "%d ms\n", (int)(now_ms() - start));
	fflush(stdout);
	_exit(0);
}
