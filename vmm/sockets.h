/* SPDX-License-Identifier: Apache-2.0
 *
 * Unix sockets in a directory given by descriptor, whatever the length of its path (sun_path holds 108 bytes). */
#ifndef FORKFS_SOCKETS_H
#define FORKFS_SOCKETS_H

#include "vmm/base/failure.h"

/* A stream socket that listens at `name` in `dir`; a socket that is there already is replaced. Returns the close-on-exec descriptor or a
 * negative errno. */
int socket_listen_at(int dir, const char *name, struct failure *why);

/* Connects without waiting for the peer to accept. Returns the close-on-exec, nonblocking descriptor or a negative errno. */
int socket_connect_at(int dir, const char *name, struct failure *why);

#endif
