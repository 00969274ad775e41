/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/overlay.h"

struct overlay {
	struct memory_source base;
	struct memory_source *own; /* the file: what it has is its own */
	struct memory_source *under;
};

/* Whose page it is at `offset`, and up to where that is so. */
static int whose(struct overlay *o, uint64_t offset, struct memory_source **ret, uint64_t *ret_end)
{
	int r = memory_source_data(o->own, offset, ret_end);

	if (*ret_end > o->base.size)
		*ret_end = o->base.size;
	*ret = r > 0 ? o->own : o->under;
	return r;
}

static int overlay_read(struct memory_source *s, void *buf, size_t n, uint64_t offset)
{
	struct overlay *o = container_of(s, struct overlay, base);
	uint64_t at = offset, end = offset + n, to;
	struct memory_source *from;
	int r = 0;

	for (; r >= 0 && at < end; at = to) {
		r = whose(o, at, &from, &to);
		to = to < end ? to : end;
		if (r >= 0)
			r = memory_source_read(from, (char *)buf + (at - offset), to - at, at);
	}
	return r < 0 ? r : 0;
}

static int overlay_data(struct memory_source *s, uint64_t offset, uint64_t *ret_end)
{
	struct overlay *o = container_of(s, struct overlay, base);
	struct memory_source *from;
	uint64_t end, to;
	int r = whose(o, offset, &from, &end);

	if (r == 0)
		r = memory_source_data(from, offset, &to);
	else
		to = end;
	*ret_end = to < end ? to : end;
	return r;
}

static int overlay_own(struct memory_source *s, uint64_t offset, struct extent *ret)
{
	struct overlay *o = container_of(s, struct overlay, base);
	uint64_t end;
	int r = 0;

	for (; offset < s->size; offset = end) {
		r = memory_source_data(o->own, offset, &end);
		if (r)
			break;
	}
	if (r > 0)
		*ret = (struct extent){ offset, end < s->size ? end : s->size };
	return r;
}

static void overlay_explain(struct memory_source *s, int error, struct failure *why)
{
	struct overlay *o = container_of(s, struct overlay, base);

	if (o->own->ops->explain)
		o->own->ops->explain(o->own, error, why);
}

static void overlay_destroy(struct memory_source *s)
{
	struct overlay *o = container_of(s, struct overlay, base);

	memory_source_unref(o->own);
	memory_source_unref(o->under);
	free(o);
}

static const struct memory_source_ops overlay_ops = {
	.read = overlay_read,
	.data = overlay_data,
	.own = overlay_own,
	.explain = overlay_explain,
	.destroy = overlay_destroy,
};

int overlay_create(struct memory_source **ret, int file, struct memory_source *under, struct failure *why)
{
	struct overlay *o = calloc(1, sizeof *o);
	int r;

	if (!o)
		return fail(why, ENOMEM, "no memory for a source of pages");
	memory_source_init(&o->base, &overlay_ops, under->size);
	r = memory_source_create_file(&o->own, file, under->size, NULL, why);
	if (r < 0) {
		free(o);
		return r;
	}
	o->under = memory_source_ref(under);
	*ret = &o->base;
	return 0;
}
