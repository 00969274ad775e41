/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/place.h"

#include <fcntl.h>
#include <stdio.h>

#include "vmm/base/cleanup.h"
#include "vmm/memory/uffd.h"
#include "vmm/memory/whole.h"

#define CHUNK (256u << 10)

struct placing {
	struct memory_source *from;
	uint64_t at;
	int uffd, mem;
	char *buffer;
};

static int put(const struct placing *p, size_t n, uint64_t offset, struct failure *why)
{
	size_t done;
	int r;

	if (p->uffd >= 0)
		r = uffd_copy(p->uffd, p->at + offset, p->buffer, n, 0, &done);
	else
		r = write_whole(p->mem, p->buffer, n, p->at + offset);
	return r < 0 ? fail_errno(why, -r, "placing guest RAM at %#llx", (unsigned long long)offset) : 0;
}

static int place_run(const struct placing *p, struct extent run, const atomic_bool *cancelled, struct failure *why)
{
	int r = 0;

	for (uint64_t n; r == 0 && run.start < run.end; run.start += n) {
		n = run.end - run.start < CHUNK ? run.end - run.start : CHUNK;
		if (cancelled && atomic_load_explicit(cancelled, memory_order_relaxed))
			return fail(why, ECANCELED, "placing guest RAM was called off");
		r = memory_source_read(p->from, p->buffer, n, run.start);
		if (r < 0)
			return memory_source_explain(p->from, r, run.start, why);
		r = put(p, n, run.start, why);
	}
	return r;
}

static int place_all(const struct placing *p, const atomic_bool *cancelled, struct failure *why)
{
	struct extent run = { 0, 0 };
	int r;

	while ((r = memory_source_own(p->from, run.end, &run)) > 0) {
		r = place_run(p, run, cancelled, why);
		if (r < 0)
			return r;
	}
	return r < 0 ? fail_errno(why, -r, "looking for the pages to place") : 0;
}

static int open_mem(pid_t pid, struct failure *why)
{
	char path[32];
	int fd;

	snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? fail_errno(why, errno == ENOENT ? ESRCH : errno, "%s", path) : fd;
}

/* Registered for as long as it takes: the guest's own faults are none of ours. */
int memory_place(int uffd, pid_t pid, uint64_t at, struct memory_source *from, const atomic_bool *cancelled, struct failure *why)
{
	AUTO_FREE char *buffer = aligned_alloc(PAGE_BYTES, CHUNK);
	struct placing p = { from, at, -1, -1, buffer };
	AUTO_CLOSE int mem = -1;
	int r;

	if (!buffer)
		return fail(why, ENOMEM, "no memory to place guest RAM with");
	if (uffd >= 0 && uffd_register(uffd, at, from->size, UFFDIO_REGISTER_MODE_MISSING) == 0)
		p.uffd = uffd;
	else
		p.mem = mem = open_mem(pid, why);
	if (p.uffd < 0 && mem < 0)
		return mem;
	r = place_all(&p, cancelled, why);
	if (p.uffd >= 0)
		uffd_unregister(uffd, at, from->size);
	return r;
}
