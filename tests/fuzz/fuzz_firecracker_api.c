/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "vmm/base/cleanup.h"
#include "vmm/firecracker_api.h"
#include "vmm/firecracker_uffd.h"

#define WAIT_US 2000000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static sd_event *event;
static struct sockaddr_un un = { .sun_family = AF_UNIX };
static int listening = -1;
static bool answered;

static void set_up(void)
{
	snprintf(un.sun_path, sizeof un.sun_path, "/tmp/forkfs-fuzz-%d", (int)getpid());
	listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unlink(un.sun_path);
	if (listening < 0 || bind(listening, (struct sockaddr *)&un, sizeof un) || listen(listening, 8) || sd_event_new(&event) < 0)
		abort();
}

static void on_answer(const struct failure *why, void *data)
{
	(void)data;
	if (answered || (why && (!why->code || !*why->text)))
		abort();
	answered = true;
}

static int accept_it(void)
{
	int fd;

	while ((fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC)) < 0)
		if (sd_event_run(event, WAIT_US) <= 0)
			abort();
	return fd;
}

/* The input is the answer, or the body of one; and what a VMM says of its memory. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct firecracker_api *api;
	struct failure why;
	char head[128];
	uint64_t at;
	int fd;

	if (!event)
		set_up();
	if (firecracker_uffd_parse(&at, (const char *)data, size, &why) == 0 && at % 4096)
		abort();
	answered = false;
	if (firecracker_api_create(&api, event, un.sun_path, &why) < 0 || firecracker_api_send(api, "PUT", "/x", "{}", on_answer, NULL) < 0)
		abort();
	fd = accept_it();
	snprintf(head, sizeof head, "HTTP/1.1 400 \r\nContent-Length: %zu\r\n\r\n", size);
	if (size && data[0] % 2)
		(void)!send(fd, head, strlen(head), MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)!send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	close_fd(&fd);
	while (!answered)
		if (sd_event_run(event, WAIT_US) <= 0)
			abort();
	firecracker_api_destroy(api);
	return 0;
}

__attribute__((destructor)) static void remove_socket(void)
{
	if (listening >= 0)
		unlink(un.sun_path);
}
