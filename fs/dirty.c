/* SPDX-License-Identifier: Apache-2.0
 *
 * `dirty`: the ranges of RAM that the guest changed. Found by a worker when it is read, for that may take looking at all of it; stat tells the size of the last
 * rendering. */
#include <inttypes.h>

#include "fs/file.h"
#include "fs/files.h"
#include "vmm/memory/dirty.h"
#include "vmm/memory/memory_source.h"

struct look {
	struct job job;
	struct file *file; /* isn't closed before its request is answered */
	fuse_req_t req;
	size_t size;
	off_t offset;
	struct extents found;
	int result;
};

static void look_run(struct job *job)
{
	struct look *l = container_of(job, struct look, job);

	l->result = memory_dirty(&l->file->view, l->file->source, &l->found);
}

static void look_done(struct job *job)
{
	struct look *l = container_of(job, struct look, job);
	struct file *f = l->file;

	text_finish(&f->text);
	for (size_t i = 0; i < l->found.count; i++)
		text_printf(&f->text, "%" PRIu64 " %" PRIu64 "\n", l->found.list[i].start, l->found.list[i].end - l->found.list[i].start);
	if (f->text.failed)
		l->result = -ENOMEM;
	if (l->result < 0) {
		fuse_reply_err(l->req, -l->result);
	} else {
		f->node->fork->dirty_size = f->text.len;
		reply_slice(l->req, f->text.data, f->text.len, l->size, l->offset);
	}
	extents_finish(&l->found);
	free(l);
}

static void dirty_read(struct file *f, fuse_req_t req, size_t size, off_t offset)
{
	struct look *l;

	if (offset > 0 || f->region.kind == REGION_NONE) {
		reply_slice(req, f->text.data, f->text.len, size, offset);
		return;
	}
	l = calloc(1, sizeof *l);
	if (!l) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	l->file = f;
	l->req = req;
	l->size = size;
	l->offset = offset;
	l->job.run = look_run;
	l->job.done = look_done;
	jobs_submit(f->fs->forks->jobs, &l->job);
}

static int dirty_open(struct file *f)
{
	const struct fork *fork = f->node->fork;
	struct failure why;
	int r = mem_kind.open(f);

	if (r == 0 && f->region.kind != REGION_NONE && !f->source && fork->origin && fork->origin->memory &&
	    (f->region.kind == REGION_SHARED || fork->origin->snapshot->delta))
		f->source = memory_source_ref(fork->origin->memory);
	if (r == 0 && f->region.kind == REGION_SHARED && fork->vm->memory.noted)
		region_view_watch(&f->view, fork->vm->process.pid, &why); /* else all of it is compared */
	return r;
}

static void dirty_stat(const struct node *n, struct stat *st)
{
	st->st_size = n->fork->vm ? (off_t)n->fork->dirty_size : 0;
	st->st_blocks = (st->st_size + 511) / 512;
}

const struct kind dirty_kind = {
	.stat = dirty_stat,
	.open = dirty_open,
	.close = mem_close,
	.read = dirty_read,
};
