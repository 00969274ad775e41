/* SPDX-License-Identifier: Apache-2.0
 *
 * Network interfaces (tap devices) for VMMs that may not make one themselves. */
#ifndef FORKFS_TAP_H
#define FORKFS_TAP_H

#include "vmm/caller.h"

/* A tap that leads nowhere: the only interface of a network namespace that is gone with the descriptor. It is up, so that what a guest sends is taken and dropped, and says nothing by
 * itself. Needs no privilege where anybody may make a user namespace. Worker. Returns a descriptor as of an open of /dev/net/tun and TUNSETIFF, or a negative errno. */
int tap_nowhere(struct failure *why);

/* The tap of this name in the daemon's network namespace. It has to be there already, made by whoever may (ip tuntap add), and `as` has to be somebody who may open /dev/net/tun and
 * attach it, without a capability. Worker. Returns such a descriptor, -EPERM there is none or it is another's, -EBUSY it is in use, or another negative errno. */
int tap_attach(const char *name, const struct caller *as, struct failure *why);

#endif
