/* SPDX-License-Identifier: Apache-2.0
 *
 * Rulesets of landlock(7). Any thread. */
#ifndef FORKFS_LANDLOCK_H
#define FORKFS_LANDLOCK_H

#include "vmm/confinement.h"

/* The kernel's ABI version, 0: it has no Landlock, or it is switched off, by FORKFS_NO_LANDLOCK in the environment too. */
int landlock_abi(void);

/* Makes a ruleset: nothing but `list`; no TCP (ABI 4), and neither signals nor abstract sockets beyond itself (ABI 6). Returns 0 and in *ret the descriptor, the
 * caller's, or -1: the kernel has no Landlock; or a negative errno. */
int landlock_make(int *ret, const struct allow *list, size_t n, struct failure *why);

#endif
