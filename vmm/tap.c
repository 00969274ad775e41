/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/tap.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "vmm/aside.h"

#define DEVICE "/dev/net/tun"
#define MTU 576 /* too small for IPv6, of which the kernel would send something by itself */

/* What parent and child share: the child runs in the parent's memory and with its descriptors, and only makes system calls. */
struct maker {
	struct ifreq tap, mtu, up;
	int fd, socket;
	const struct caller *as; /* NULL: the daemon itself */
	struct __user_cap_header_struct cap_header;
	struct __user_cap_data_struct cap_data[_LINUX_CAPABILITY_U32S_3];
	/* the child's answer */
	const char *step;
	int error;
};

IN_CHILD static bool did(struct maker *m, const char *step, long result)
{
	if (result >= 0)
		return true;
	m->error = errno;
	m->step = step;
	return false;
}

IN_CHILD static bool attach(struct maker *m)
{
	m->fd = (int)syscall(SYS_openat, AT_FDCWD, DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0);
	return did(m, "open " DEVICE, m->fd) && did(m, "make it", syscall(SYS_ioctl, m->fd, TUNSETIFF, &m->tap));
}

IN_CHILD static bool raise_it(struct maker *m)
{
	memcpy(m->mtu.ifr_name, m->tap.ifr_name, IFNAMSIZ);
	memcpy(m->up.ifr_name, m->tap.ifr_name, IFNAMSIZ);
	m->socket = (int)syscall(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return did(m, "a socket", m->socket) && did(m, "set its MTU", syscall(SYS_ioctl, m->socket, SIOCSIFMTU, &m->mtu)) &&
	       did(m, "set it up", syscall(SYS_ioctl, m->socket, SIOCSIFFLAGS, &m->up));
}

IN_CHILD static int make_nowhere(void *data)
{
	if (attach(data))
		raise_it(data);
	syscall(SYS_exit, 0);
	__builtin_unreachable();
}

/* libc's wrappers would change every thread of the daemon. */
IN_CHILD static bool become(struct maker *m)
{
	const struct caller *c = m->as;

	if (c && (!did(m, "drop the groups", syscall(SYS_setgroups, c->group_count, c->groups)) || !did(m, "become the gid", syscall(SYS_setresgid, c->gid, c->gid, c->gid)) ||
		  !did(m, "become the uid", syscall(SYS_setresuid, c->uid, c->uid, c->uid))))
		return false;
	return did(m, "drop the capabilities", syscall(SYS_capset, &m->cap_header, m->cap_data));
}

IN_CHILD static int attach_as(void *data)
{
	if (become(data))
		attach(data);
	syscall(SYS_exit, 0);
	__builtin_unreachable();
}

/* As a VMM asks for one. */
static struct maker maker_for(const char *name)
{
	struct maker m = { .fd = -1, .socket = -1 };

	memcpy(m.tap.ifr_name, name, strnlen(name, IFNAMSIZ - 1));
	m.cap_header.version = _LINUX_CAPABILITY_VERSION_3;
	m.tap.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	m.mtu.ifr_mtu = MTU;
	m.up.ifr_flags = IFF_UP | IFF_NOARP;
	return m;
}

/* Returns the descriptor or a negative errno. */
static int finish(struct maker *m, int r)
{
	close_fd(&m->socket);
	if (r == 0 && m->error)
		r = -m->error;
	if (r == 0)
		return m->fd;
	close_fd(&m->fd);
	return r;
}

/* The device is in the namespace in which it was opened. */
int tap_nowhere(struct failure *why)
{
	struct maker m = maker_for("tap");
	int r = finish(&m, run_aside(make_nowhere, &m, CLONE_NEWNET | (geteuid() == 0 ? 0 : CLONE_NEWUSER)));

	if (r >= 0)
		return r;
	fail_errno(why, -r, "a network interface that leads nowhere: %s", m.step ?: "a network namespace");
	if (why)
		why->code = EOPNOTSUPP; /* of this host */
	return -EOPNOTSUPP;
}

int tap_attach(const char *name, const struct caller *as, struct failure *why)
{
	struct maker m = maker_for(name);
	int r;

	m.as = geteuid() == 0 ? as : NULL;
	r = finish(&m, run_aside(attach_as, &m, 0));
	if (r == -EPERM)
		return fail(why, EPERM, "the network interface %s: there is none, or uid %u may not attach it (ip tuntap add dev %s mode tap user %u)", name, as->uid, name, as->uid);
	return r < 0 ? fail_errno(why, -r, "the network interface %s: %s", name, m.step ?: "a process") : r;
}
