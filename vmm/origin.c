/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/origin.h"

#include <string.h>

#include "vmm/template.h"

struct origin *origin_create(void)
{
	struct origin *o = calloc(1, sizeof *o);

	if (!o)
		return NULL;
	atomic_init(&o->refs, 1);
	o->dir = -1;
	return o;
}

struct origin *origin_ref(struct origin *o)
{
	atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
	return o;
}

void origin_unref(struct origin *o)
{
	if (!o || atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) != 1)
		return;
	template_unref(o->template);
	snapshot_unref(o->snapshot);
	working_set_unref(o->set);
	caller_unref(o->writer);
	close_fd(&o->dir);
	free(o->disks);
	free(o->network);
	free(o);
}

bool origin_same(const struct origin *a, const struct origin *b)
{
	return !memcmp(&a->snapshot->key, &b->snapshot->key, sizeof a->snapshot->key) && a->driver == b->driver && driver_program_same(&a->program, &b->program) &&
	       !strcmp(a->backend, b->backend) && a->fill == b->fill && a->realtime == b->realtime && a->learn == b->learn && !a->set == !b->set &&
	       !strcmp(a->disks ?: "", b->disks ?: "") && !strcmp(a->network ?: "", b->network ?: "");
}

void origin_kept(const struct origin *o, int *ret_pages, int *ret_base)
{
	const struct snapshot *s = o->snapshot;
	bool shared = o->region == REGION_SHARED;

	*ret_pages = s->delta ? s->pages : shared ? s->file : -1;
	*ret_base = s->delta && shared ? template_fd(s->template) : -1;
}

const char *origin_backend(const char *name)
{
	static const char *const names[] = { "memfd-shared", "memfd-private", "file", "userfault" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (!strcmp(names[i], name))
			return names[i];
	return names[0];
}

int origin_file(const struct origin *o)
{
	return o->template ? template_fd(o->template) : o->snapshot->file;
}
