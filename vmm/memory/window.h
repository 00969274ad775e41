/* SPDX-License-Identifier: Apache-2.0
 *
 * A second way to put pages into a memfd: by userfaultfd on a mapping that nobody touches. Unlike pwrite(2), which holds the inode's lock, two threads
 * can do it at once, and unlike a store it clears no page first. Private to memory/. */
#ifndef FORKFS_MEMORY_WINDOW_H
#define FORKFS_MEMORY_WINDOW_H

#include <stddef.h>
#include <stdint.h>

struct window {
	int uffd;
	char *map;
	uint64_t size;
};

/* Opens one on the first `size` bytes of `memfd`. Returns 0 or a negative errno: the kernel, its settings or the file don't allow it. */
int window_open(struct window *ret, int memfd, uint64_t size);
void window_close(struct window *w);

/* Puts whole pages where there are holes. Returns 0 or a negative errno, then some may be there already; -EEXIST where a page is no hole. May be called
 * from several threads at once. */
int window_put(const struct window *w, const void *pages, size_t n, uint64_t offset);

#endif
