/* SPDX-License-Identifier: Apache-2.0
 *
 * Why something failed: an errno for the program and a sentence for the person. Functions return the negative errno; the sentence
 * goes beside it and is what a fork's `error` file shows. */
#ifndef FORKFS_BASE_FAILURE_H
#define FORKFS_BASE_FAILURE_H

#include "vmm/base/cleanup.h"

struct failure {
	int code;        /* a positive errno; 0: nothing failed */
	char text[1024]; /* one line, without a newline; a longer one is cut */
};

/* Says what failed and returns -code. `f` may be NULL: then only the errno is told. Control characters that the arguments brought
 * along are shown as '?', for the sentence is one line. */
int fail(struct failure *f, int code, const char *fmt, ...) PRINTF(3, 4);

/* As fail(), with ": " and strerror(code) behind the sentence. */
int fail_errno(struct failure *f, int code, const char *fmt, ...) PRINTF(3, 4);

/* Puts "<fmt>: " before the sentence that is there: the caller knows which child and which step. Returns -f->code. */
int fail_within(struct failure *f, const char *fmt, ...) PRINTF(2, 3);

#endif
