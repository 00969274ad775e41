/* SPDX-License-Identifier: Apache-2.0
 *
 * submit FILE TEXT: opens FILE, says "open" and waits for a line on standard input; then hands a write of TEXT and a newline to io_submit(2) and says "submitted" as soon as that returns, and
 * at last the write's outcome. */
#include <linux/aio_abi.h>

#include "tool.h"

int main(int argc, char **argv)
{
	static char line[4096];
	struct iocb job = { .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_buf = (uintptr_t)line }, *jobs[] = { &job };
	struct io_event event;
	aio_context_t context = 0;
	char go;

	if (argc != 3)
		return 2;
	setvbuf(stdout, NULL, _IONBF, 0);
	job.aio_fildes = (uint32_t)must_open(argv[1], O_WRONLY);
	job.aio_nbytes = (uint64_t)snprintf(line, sizeof line, "%s\n", argv[2]);
	if (syscall(SYS_io_setup, 1, &context) < 0)
		return 1;
	printf("open\n");
	if (read(0, &go, 1) != 1)
		return 1;
	if (syscall(SYS_io_submit, context, 1, jobs) != 1) {
		printf("submit %s\n", outcome(-1));
		return 0;
	}
	printf("submitted\n");
	if (syscall(SYS_io_getevents, context, 1, 1, &event, NULL) != 1)
		return 1;
	printf("%s\n", event.res < 0 ? strerrorname_np((int)-event.res) : "ok");
	return 0;
}
