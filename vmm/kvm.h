/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether /dev/kvm really runs guests. One that opens is no proof: nested hosts exist that interpret guest kernels instruction by
 * instruction. */
#ifndef FORKFS_KVM_H
#define FORKFS_KVM_H

#include <stdbool.h>

struct kvm_facts {
	bool usable;
	double mips;      /* millions of guest instructions a second that a loop reached; 0 where none ran */
	char detail[200]; /* a sentence for doctor */
};

/* Runs a small guest in a process of its own for at most half a second. Blocks: call it on a worker. FORKFS_KVM_MIPS in the daemon's environment is its answer
 * instead, for tests of a VMM that needs KVM where there is none. */
void kvm_probe(struct kvm_facts *ret);

#endif
