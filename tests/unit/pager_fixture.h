/* SPDX-License-Identifier: Apache-2.0
 *
 * A child, a pager that has its pages, the source they come from, and what the pager told. */
#ifndef FORKFS_TESTS_PAGER_FIXTURE_H
#define FORKFS_TESTS_PAGER_FIXTURE_H

#include "tests/unit/fake_source.h"
#include "tests/unit/pager_child.h"
#include "tests/unit/patience.h"
#include "vmm/memory/pager.h"

struct told {
	atomic_int broke, filled;
	struct failure why; /* it broke */
};

struct fixture {
	struct uffd_child child;
	struct fake_source *source;
	struct told told;
	struct pager *pager;
	struct pager_options options; /* the child's memory from the source; the test adds to them */
	struct pager_region *region;  /* NULL: it is not served */
};

/* Nothing is served yet. To be called while this process has no other thread, for it starts a child. */
void fixture_start(struct fixture *f);

/* The pager serves the child, with the options as they are now. */
void fixture_serve(struct fixture *f);

/* And does no more. */
void fixture_remove(struct fixture *f);

/* Nobody else may refer to the source then. */
void fixture_end(struct fixture *f);

/* Returns when the pager has counted what it did: a child goes on a moment before its fault is counted. */
void await_step(struct fixture *f);

#endif
