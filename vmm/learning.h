/* SPDX-License-Identifier: Apache-2.0
 *
 * What a child asked for becomes its snapshot's working set. */
#ifndef FORKFS_LEARNING_H
#define FORKFS_LEARNING_H

#include "vmm/fork.h"

/* A while after a child began to run it has asked for what its start takes. */
#define LEARNING_USEC 10000000

/* The child runs: what it asks for is published after that while. Loop. */
void learning_begin(struct fork *f);

/* Its VM ends: likewise, if that was not done or is to be done each time (config/working_set `record`). Loop. */
void learning_end(struct fork *f);

#endif
