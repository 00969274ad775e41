/* SPDX-License-Identifier: Apache-2.0
 *
 * A growing string. A failed allocation is remembered, so that a renderer can write on and its caller looks once. */
#ifndef FORKFS_BASE_TEXT_H
#define FORKFS_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/cleanup.h"

struct text {
	char *data; /* NUL behind the last byte; NULL while nothing was written */
	size_t len, size;
	bool failed; /* an allocation failed: the text is not whole */
};

void text_append(struct text *t, const void *data, size_t n);
void text_puts(struct text *t, const char *s);
void text_printf(struct text *t, const char *fmt, ...) PRINTF(2, 3);
void text_finish(struct text *t);

#define AUTO_TEXT __attribute__((cleanup(text_finish)))

#endif
