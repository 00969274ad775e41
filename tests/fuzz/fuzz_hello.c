/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "vmm/handover.h"
#include "vmm/memory/uffd.h"

#define DESCRIPTORS 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int kinds[2] = { -1, -1 }; /* a userfaultfd where one can be had, and what is none */
static unsigned int hellos, ends;

static void on_hello(const struct vm_memory *memory, void *data)
{
	struct vm_memory *m = data;

	if (hellos++)
		abort();
	if (!memory)
		return;
	if (memory->error > 0 || memory->error < -4095)
		abort();
	*m = *memory;
}

static void on_answered(int error, void *data)
{
	(void)data;
	if (error > 0 || error < -4095)
		abort();
	ends += error == -EPIPE;
}

static void send_with(int fd, const void *data, size_t n, unsigned int descriptors)
{
	union {
		char space[CMSG_SPACE(DESCRIPTORS * sizeof(int))];
		struct cmsghdr head;
	} control = { .head = { CMSG_LEN(descriptors * sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec iov = { (void *)(uintptr_t)data, n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(descriptors * sizeof(int)) };
	int fds[DESCRIPTORS];

	for (unsigned int i = 0; i < descriptors; i++)
		fds[i] = kinds[(n + i) % 2];
	memcpy(CMSG_DATA(&control.head), fds, descriptors * sizeof(int));
	if (!descriptors)
		m.msg_control = NULL, m.msg_controllen = 0;
	(void)!sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* So few that a leak is soon an abort. */
static void set_up(sd_event **event)
{
	struct rlimit few = { 128, 128 };

	kinds[0] = uffd_open(-1, UFFD_FEATURES_MISSING);
	kinds[1] = eventfd(0, EFD_CLOEXEC);
	if (kinds[0] < 0)
		kinds[0] = kinds[1];
	if (kinds[1] < 0 || sd_event_new(event) < 0 || setrlimit(RLIMIT_NOFILE, &few))
		abort();
}

/* Messages one after another: a byte says how long each is, the next one how many descriptors come along. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static sd_event *event;
	struct vm_memory memory = VM_MEMORY_UNKNOWN;
	struct handover h = { .fd = -1, .hello = on_hello, .answered = on_answered, .data = &memory };
	int ours, theirs;

	if (!event)
		set_up(&event);
	hellos = ends = 0;
	if (handover_pair(&ours, &theirs) < 0 || handover_init(&h, event, ours) < 0)
		abort();
	for (size_t at = 0; at + 2 < size;) {
		size_t n = data[at] < size - at - 2 ? data[at] : size - at - 2;

		send_with(theirs, data + at + 2, n ?: 1, data[at + 1] % (DESCRIPTORS + 1));
		at += 2 + (n ?: 1);
		while (sd_event_run(event, 0) > 0)
			;
	}
	close(theirs);
	while (sd_event_run(event, 0) > 0)
		;
	if (hellos != 1)
		abort();
	handover_finish(&h);
	vm_memory_finish(&memory);
	return 0;
}
