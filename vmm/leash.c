/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/leash.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

int leash_make(struct leash *l)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	l->ours = pair[0];
	l->theirs = pair[1];
	return 0;
}

int leash_hold(struct leash *l, pid_t pid)
{
	if (fcntl(l->theirs, F_SETOWN, pid) || fcntl(l->theirs, F_SETSIG, SIGKILL) || fcntl(l->theirs, F_SETFL, O_ASYNC))
		return -errno;
	return 0;
}

void leash_release(struct leash *l)
{
	if (l->theirs >= 0)
		fcntl(l->theirs, F_SETFL, 0);
	close_fd(&l->theirs);
	close_fd(&l->ours);
}
