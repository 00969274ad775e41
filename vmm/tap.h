/* SPDX-License-Identifier: Apache-2.0
 *
 * Network interfaces (tap devices) for VMMs that may not make one themselves. */
#ifndef FORKFS_TAP_H
#define FORKFS_TAP_H

#include "vmm/base/failure.h"

/* A tap that leads nowhere: the only interface of a network namespace that is gone with the descriptor. It is up, so that what a guest sends is taken and dropped, and says nothing by
 * itself. Needs no privilege where anybody may make a user namespace. Worker. Returns a descriptor as of an open of /dev/net/tun and TUNSETIFF, or a negative errno. */
int tap_nowhere(struct failure *why);

#endif
