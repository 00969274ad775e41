/* SPDX-License-Identifier: Apache-2.0
 *
 * Templates: memory that all children of a snapshot share. A sealed memfd, filled once from the snapshot's memory file, that every child maps privately: a clean page is there
 * once however many children there are. Known by the identity of the memory file; kept while it is used, and a while longer within a limit. Safe from any
 * thread. */
#ifndef FORKFS_TEMPLATE_H
#define FORKFS_TEMPLATE_H

#include <stdatomic.h>
#include <stdint.h>

#include "vmm/base/jobs.h"
#include "vmm/memory/memory_source.h"

struct template;

/* Whose workers free what is forgotten, gigabytes at times; NULL: whoever forgets it. Loop. */
void template_free_by(struct jobs *jobs);

/* The template of the memory file `memory`, which is `source` too, made when there is none yet (a worker's task: it copies the data). Returns 0; as memory_fill(). */
int template_get(struct template **ret, int memory, struct memory_source *source, uint64_t keep, const atomic_bool *cancelled, struct failure *why);

/* A memory file that nobody changes any more is a template as it is; `fd` is duplicated, read-only. It isn't counted, nor kept longer than it is used. Returns 0 or a
 * negative errno. */
int template_wrap(struct template **ret, int fd, uint64_t size, struct failure *why);
struct template *template_ref(struct template *t);

/* NULL is accepted. An unused one stays known as long as all unused ones together have no more than `keep` bytes, as template_get() was told last. */
void template_unref(struct template *t);

/* Its memory outlives the daemon from now on (keeper.h), until it has been let go as often. Worker. Returns 0 or a negative errno. */
int template_keep(struct template *t, struct failure *why);
void template_let_go(struct template *t);

/* What a keeper of the former daemon's has: kept once. Takes the keeper. */
struct keeper;
void template_kept(struct template *t, struct keeper *keeper);

/* The memfd; the template's own. */
int template_fd(const struct template *t);

/* The same as a source; the template's own. */
struct memory_source *template_source(const struct template *t);

/* How many there are, and the bytes that they take. */
void template_count(unsigned int *ret_count, unsigned int *ret_used, uint64_t *ret_bytes);

/* Forgets the unused ones, until `bytes` are freed: memory is scarce, or the daemon ends (UINT64_MAX). Returns how many were. */
uint64_t template_forget(uint64_t bytes);

#endif
