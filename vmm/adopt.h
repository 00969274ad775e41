/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking over from a daemon that died, for the files that this is in: adopt.c finds what there is, adopt_vm.c takes the VMs, adopt_shots.c the snapshots. */
#ifndef FORKFS_ADOPT_H
#define FORKFS_ADOPT_H

#include "vmm/fork_private.h"
#include "vmm/fork_record.h"
#include "vmm/template.h"

/* The templates that VMs of the former daemon hold, and its keepers: what the pages of a delta lie over is found among them. */
struct adopted_bases {
	struct adopted_base {
		struct file_id id;
		struct template *template;
		bool kept; /* by one more until all have been looked at */
	} *list;
	size_t count;
};

/* The one of that file, borrowed, or NULL. */
struct template *adopted_base_find(const struct adopted_bases *bases, const struct file_id *id);

/* One of that file, of so many bytes: *ret is borrowed. Returns 0 or a negative errno. */
int adopted_base_add(struct adopted_bases *bases, int fd, uint64_t size, struct template **ret, struct failure *why);

/* What was taken of a VMM. */
struct taken;

/* Takes what is in the VMM. NULL: it has ended, and that is told. */
struct taken *adopt_vm_take(struct fork *f, const struct vm_record *r);

/* Whether the memory that its pages come from is whole: else it is another fork's capture that has to be finished first. */
bool adopt_vm_ready(const struct taken *t, const struct vm_record *r);

/* Finishes the captures of the fork's memory that were under way, and begins to take over the VM: f->all->adopting counts it until it has answered. What can't be taken over is ended,
 * and the fork failed. Frees `t`. */
void adopt_vm(struct fork *f, struct taken *t, struct fork_record *r, struct adopted_bases *bases);

/* Makes the memory of the fork's snapshot whole; r->complete says whether it is. `view` as the capture had it; `base`: where process `pid` has it. */
void adopt_capture(const struct fork *f, struct shot_record *r, const struct region_view *view, pid_t pid, uint64_t base);

/* Takes over the fork's snapshots, once all VMs have been looked at. Those that were being written are dropped. */
void adopt_shots(struct fork *f, const struct fork_record *r, const struct adopted_bases *bases);

#endif
