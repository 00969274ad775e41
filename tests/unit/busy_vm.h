/* SPDX-License-Identifier: Apache-2.0
 *
 * A child process that rewrites its RAM all the while and looks after what it wrote, and a pager that has its pages. */
#ifndef FORKFS_TESTS_BUSY_VM_H
#define FORKFS_TESTS_BUSY_VM_H

#include <stdatomic.h>

#include "tests/unit/pages.h"
#include "tests/unit/uffd_child.h"
#include "vmm/memory/memory_source.h"
#include "vmm/memory/pager.h"
#include "vmm/memory/region.h"

#define PAGES 2048u
#define SIZE (PAGES * PAGE)
#define WRITERS 2u

enum kind {
	SHARED,
	OVER_SOURCE, /* shared; half of its pages are in a source yet */
	WHOLE,       /* private; all of it is captured */
	DELTA,       /* private; the process's own pages are */
};

/* Between parent and child. */
struct control {
	atomic_uint_fast64_t order; /* of all writes */
	atomic_uint limit;          /* how many pages are written to */
	atomic_uint bad;            /* pages that had not what was written there last */
};

struct vm {
	enum kind kind;
	struct uffd_child child;
	struct control *control;
	struct region region;
	struct region_view view;
	struct memory_source *source;
	struct pager *pager;
	struct pager_region *paged;
};

/* To be called while this process has no other thread, for it starts a child. */
void start_vm(struct vm *vm, enum kind kind);

/* Fails the test if the child found other pages than it had left. */
void end_vm(struct vm *vm);

/* Returns when the child stands still; and has it go on. */
void stop_child(const struct vm *vm);
void continue_child(const struct vm *vm);

/* Until there are `n` more. */
void await_writes(const struct vm *vm, uint64_t n);

/* What the child sees, without the code of captures: SIZE bytes. */
void look(const struct vm *vm, char *ret);

/* What is there before anybody writes. The child only reads every fourth page. */
static inline uint64_t pattern(uint64_t page)
{
	return page % 3 == 2 ? 0 : 0x5000000000000000 + page;
}

#endif
