/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "tests/unit/pages.h"
#include "tests/unit/uffd_child.h"
#include "vmm/base/cleanup.h"
#include "vmm/memory/uffd.h"

static int hand_over(int sock, int uffd, uint64_t base)
{
	char control[CMSG_SPACE(sizeof uffd)] = { 0 };
	struct iovec iov = { &base, sizeof base };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof uffd) };
	memcpy(CMSG_DATA(c), &uffd, sizeof uffd);
	return sendmsg(sock, &m, 0) == sizeof base ? 0 : -1;
}

static void receive(struct uffd_child *c)
{
	char control[CMSG_SPACE(sizeof c->uffd)];
	struct iovec iov = { &c->base, sizeof c->base };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };

	cr_assert_eq(recvmsg(c->sock, &m, MSG_CMSG_CLOEXEC), (ssize_t)sizeof c->base);
	cr_assert(CMSG_FIRSTHDR(&m), "no descriptor came");
	memcpy(&c->uffd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof c->uffd);
}

static _Noreturn void be_child(const struct uffd_child_options *o, int sock)
{
	volatile uint64_t *ram = mmap(NULL, o->size, PROT_READ | PROT_WRITE, o->flags, o->memory, 0);
	int uffd;
	char go;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	uffd = uffd_open(-1, UFFD_FEATURES_MISSING | UFFD_FEATURES_CAPTURE);
	if (ram == MAP_FAILED || uffd < 0)
		_exit(3);
	if (hand_over(sock, uffd, (uintptr_t)ram) < 0)
		_exit(4);
	if (recv(sock, &go, sizeof go, 0) != sizeof go)
		_exit(5);
	o->work(ram, sock, o->data);
	_exit(0);
}

void uffd_child_start(struct uffd_child *c, const struct uffd_child_options *o)
{
	int socks[2];

	*c = (struct uffd_child){ .memory = o->memory };
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks), 0);
	c->pid = fork();
	cr_assert_geq(c->pid, 0);
	if (c->pid == 0) {
		close(socks[0]);
		be_child(o, socks[1]);
	}
	close(socks[1]);
	c->sock = socks[0];
	receive(c);
	cr_assert_eq(uffd_register(c->uffd, c->base, o->size, o->modes), 0);
	cr_assert_eq(send(c->sock, "g", 1, 0), 1);
}

void uffd_child_kill(struct uffd_child *c)
{
	if (c->pid == 0)
		return;
	kill(c->pid, SIGKILL);
	cr_assert_eq(waitpid(c->pid, NULL, 0), c->pid);
	c->pid = 0;
}

void uffd_child_end(struct uffd_child *c)
{
	uffd_child_kill(c);
	close_fd(&c->memory);
	close_fd(&c->uffd);
	close_fd(&c->sock);
}

bool is_there(const struct uffd_child *c, uint64_t page)
{
	return lseek(c->memory, (off_t)(page * PAGE), SEEK_DATA) == (off_t)(page * PAGE);
}
