/* SPDX-License-Identifier: Apache-2.0
 *
 * What faults.c, preloaded into the daemon, and fault_rounds.c share: a file that both map. */
#ifndef FORKFS_TESTS_FAULTS_H
#define FORKFS_TESTS_FAULTS_H

#include <stdatomic.h>

enum fault_kind { FAULT_MEMORY, FAULT_CALLS, FAULT_KINDS };

struct faults {
	atomic_int armed;          /* FAULT_KINDS: neither is counted */
	atomic_long seen, failing; /* calls of that kind since it was armed; which one fails, from 1 */
	char failed[32];           /* its name */
};

#endif
