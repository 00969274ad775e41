/* SPDX-License-Identifier: Apache-2.0
 *
 * Captures of a busy child, compared with what it had when it was stopped. */
#ifndef FORKFS_TESTS_CAPTURE_CHECK_H
#define FORKFS_TESTS_CAPTURE_CHECK_H

#include "tests/unit/busy_vm.h"
#include "vmm/memory/live_capture.h"

/* What a capture told at its end. */
struct outcome {
	atomic_int calls, result;
	char text[1024];
};

/* As live_capture_arm(), of all the child's memory. */
int arm(struct live_capture **ret, const struct vm *vm, int file, struct outcome *o, struct failure *why);

/* Returns the result. */
int await_done(const struct outcome *o);

/* All of the image, read in pieces of `piece` bytes, is what was expected. */
void compare(struct memory_source *image, const char *expected, uint64_t piece, const char *when);

/* From arming to the end, while the child writes and the image is read. The rounds differ in how much is written, and in when the child goes on. Returns
 * whether pages were read while they were not captured yet. */
bool capture(const struct vm *vm, int round);

#endif
