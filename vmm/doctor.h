/* SPDX-License-Identifier: Apache-2.0
 *
 * What the host offers and what to do about what it doesn't: one line a check, "ok|warn|fail NAME DETAIL". */
#ifndef FORKFS_DOCTOR_H
#define FORKFS_DOCTOR_H

#include "vmm/base/text.h"
#include "vmm/config.h"

/* Looks at everything: worker, at most about a second. `config` for the paths of programs. */
void doctor_print(const struct config *config, struct text *t);

#endif
