/* SPDX-License-Identifier: Apache-2.0
 *
 * What a VMM wrote last: the reason that a failure's sentence gives. */
#ifndef FORKFS_LAST_WORDS_H
#define FORKFS_LAST_WORDS_H

#include <stddef.h>
#include <sys/types.h>

/* A log as it is now. `fd`: readable, owned. */
struct last_words {
	int fd;
	off_t from; /* where this process began to write */
};

/* `log` may be open for writing only: it is opened anew. Where that fails there are no last words. */
void last_words_init(struct last_words *w, int log);
void last_words_finish(struct last_words *w);

/* The last line since then that isn't blank, "" none. Returns buf. */
char *last_words_read(const struct last_words *w, char *buf, size_t n);

#endif
