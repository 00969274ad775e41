/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/template.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "vmm/base/list.h"
#include "vmm/host.h"
#include "vmm/keeper.h"
#include "vmm/memory/copy.h"
#include "vmm/memory/region.h"

struct template {
	struct list link;
	struct job job;
	unsigned int refs;
	dev_t dev;
	ino_t ino;
	struct timespec changed;
	uint64_t size;  /* of RAM */
	uint64_t bytes; /* that it takes, never 0: one of zeros alone takes descriptors */
	bool known;     /* in `all` */
	int fd;
	struct memory_source *source;
	/* guarded by lock: */
	unsigned int keeps;
	struct keeper *keeper; /* as long as there are any */
	bool keeper_begins;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Held by whoever makes one: two restores of a snapshot that is new to us make one template, not two. Taken before `lock`. */
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t kept = PTHREAD_COND_INITIALIZER; /* a keeper has begun, or can't */
/* guarded by lock; the longest unused ones first */
static struct list all = { &all, &all };
static uint64_t limit;
static struct jobs *workers; /* set and cleared while nobody else is there */

static void release(struct template *t)
{
	memory_source_unref(t->source);
	close_fd(&t->fd);
	free(t);
}

static void release_run(struct job *job)
{
	struct template *t = container_of(job, struct template, job);

	memory_source_unref(t->source);
	t->source = NULL;
	close_fd(&t->fd);
}

static void release_done(struct job *job)
{
	release(container_of(job, struct template, job));
}

static void destroy(struct template *t)
{
	list_remove(&t->link);
	if (!workers) {
		release(t);
		return;
	}
	t->job.run = release_run;
	t->job.done = release_done;
	jobs_submit(workers, &t->job);
}

void template_free_by(struct jobs *jobs)
{
	workers = jobs;
}

/* Called with the lock. Returns what is left to free. */
static uint64_t forget(uint64_t bytes)
{
	struct template *t;

	list_for_each(t, &all, link) {
		if (!bytes)
			break;
		if (t->refs)
			continue;
		bytes -= t->bytes < bytes ? t->bytes : bytes;
		destroy(t);
	}
	return bytes;
}

static void keep_limit(void)
{
	struct template *t;
	uint64_t unused = 0;

	list_for_each(t, &all, link)
		unused += t->refs ? 0 : t->bytes;
	if (unused > limit)
		forget(unused - limit);
}

static struct template *find(const struct stat *st, uint64_t size)
{
	struct template *t, *found = NULL;

	pthread_mutex_lock(&lock);
	list_for_each(t, &all, link)
		if (t->dev == st->st_dev && t->ino == st->st_ino && t->size == size && t->changed.tv_sec == st->st_mtim.tv_sec &&
		    t->changed.tv_nsec == st->st_mtim.tv_nsec)
			found = t;
	if (found)
		found->refs++;
	pthread_mutex_unlock(&lock);
	return found;
}

static int fill(struct template *t, struct memory_source *from, const atomic_bool *cancelled, struct failure *why)
{
	struct region r;
	struct stat st;
	int result = region_create_shared(&r, "template", t->size, why);

	if (result < 0)
		return result;
	t->fd = r.fd;
	result = memory_fill(t->fd, from, cancelled, NULL, why);
	if (result < 0)
		return result;
	if (fcntl(t->fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) || fstat(t->fd, &st))
		return fail_errno(why, errno, "the template can't be sealed");
	t->bytes = st.st_blocks ? (uint64_t)st.st_blocks * 512 : 1;
	return memory_source_create_file(&t->source, t->fd, t->size, NULL, why);
}

static struct template *alloc(uint64_t size)
{
	struct template *t = calloc(1, sizeof *t);

	if (!t)
		return NULL;
	*t = (struct template){ .refs = 1, .size = size, .fd = -1 };
	list_init(&t->link);
	return t;
}

/* The unused ones go first. A file's blocks are what its copy takes, at most. */
static int check_room(const struct stat *st, uint64_t size, struct failure *why)
{
	uint64_t need = (uint64_t)st->st_blocks * 512 < size ? (uint64_t)st->st_blocks * 512 : size, available, total;

	host_memory(&available, &total);
	if (available && need > available)
		available += template_forget(need - available);
	if (!available || need <= available)
		return 0;
	return fail(why, ENOMEM, "%llu MiB of memory are needed for a template, %llu MiB are left", (unsigned long long)(need >> 20), (unsigned long long)(available >> 20));
}

static int make(struct template **ret, const struct stat *st, struct memory_source *source, const atomic_bool *cancelled, struct failure *why)
{
	struct template *t;
	int r = check_room(st, source->size, why);

	if (r < 0)
		return r;
	t = alloc(source->size);
	if (!t)
		return fail(why, ENOMEM, "no memory for a template");
	t->dev = st->st_dev;
	t->ino = st->st_ino;
	t->changed = st->st_mtim;
	t->known = true;
	r = fill(t, source, cancelled, why);
	if (r < 0) {
		destroy(t);
		return r;
	}
	pthread_mutex_lock(&lock);
	list_append(&all, &t->link);
	pthread_mutex_unlock(&lock);
	*ret = t;
	return 0;
}

int template_wrap(struct template **ret, int fd, uint64_t size, struct failure *why)
{
	struct template *t = alloc(size);
	int r;

	if (!t)
		return fail(why, ENOMEM, "no memory for a template");
	t->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	r = t->fd < 0 ? fail_errno(why, errno, "the memory file") : memory_source_create_file(&t->source, t->fd, size, NULL, why);
	if (r < 0) {
		destroy(t);
		return r;
	}
	*ret = t;
	return 0;
}

int template_get(struct template **ret, int memory, struct memory_source *source, uint64_t keep, const atomic_bool *cancelled, struct failure *why)
{
	struct template *t;
	struct stat st;
	int r = 0;

	if (fstat(memory, &st))
		return fail_errno(why, errno, "the memory file");
	pthread_mutex_lock(&making);
	limit = keep;
	t = find(&st, source->size);
	if (!t)
		r = make(&t, &st, source, cancelled, why);
	pthread_mutex_unlock(&making);
	if (r == 0)
		*ret = t;
	return r;
}

struct template *template_ref(struct template *t)
{
	pthread_mutex_lock(&lock);
	t->refs++;
	pthread_mutex_unlock(&lock);
	return t;
}

void template_unref(struct template *t)
{
	if (!t)
		return;
	pthread_mutex_lock(&lock);
	if (!--t->refs && t->known) {
		list_remove(&t->link);
		list_append(&all, &t->link);
		keep_limit();
	} else if (!t->refs) {
		destroy(t);
	}
	pthread_mutex_unlock(&lock);
}

/* Whoever comes while a keeper begins waits for it; that it begins keeps nobody else waiting. */
int template_keep(struct template *t, struct failure *why)
{
	struct keeper *keeper = NULL;
	int r = 0;

	pthread_mutex_lock(&lock);
	while (t->keeper_begins)
		pthread_cond_wait(&kept, &lock);
	if (!t->keeper) {
		t->keeper_begins = true;
		pthread_mutex_unlock(&lock);
		r = keeper_start(&keeper, t->fd, why);
		pthread_mutex_lock(&lock);
		t->keeper_begins = false;
		t->keeper = keeper;
		pthread_cond_broadcast(&kept);
	}
	t->keeps += r == 0;
	pthread_mutex_unlock(&lock);
	return r;
}

void template_kept(struct template *t, struct keeper *keeper)
{
	t->keeper = keeper;
	t->keeps = 1;
}

void template_let_go(struct template *t)
{
	struct keeper *keeper = NULL;

	pthread_mutex_lock(&lock);
	if (!--t->keeps)
		keeper = steal_ptr(&t->keeper);
	pthread_mutex_unlock(&lock);
	keeper_end(keeper);
}

int template_fd(const struct template *t)
{
	return t->fd;
}

struct memory_source *template_source(const struct template *t)
{
	return t->source;
}

void template_count(unsigned int *ret_count, unsigned int *ret_used, uint64_t *ret_bytes)
{
	struct template *t;

	*ret_count = *ret_used = 0;
	*ret_bytes = 0;
	pthread_mutex_lock(&lock);
	list_for_each(t, &all, link) {
		++*ret_count;
		*ret_used += t->refs > 0;
		*ret_bytes += t->bytes;
	}
	pthread_mutex_unlock(&lock);
}

uint64_t template_forget(uint64_t bytes)
{
	uint64_t left;

	pthread_mutex_lock(&lock);
	left = forget(bytes);
	pthread_mutex_unlock(&lock);
	return bytes - left;
}
