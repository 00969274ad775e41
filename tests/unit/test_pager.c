/* SPDX-License-Identifier: Apache-2.0
 *
 * A child process maps a memfd and touches it as it is told; the pager on this side has the pages. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "vmm/memory/pager.h"
#include "vmm/memory/uffd.h"

#define PAGE ((uint64_t)PAGE_BYTES)
#define PAGES 1024u
#define SIZE (PAGES * PAGE)
#define WORDS (PAGE / sizeof(uint64_t))
#define TOUCHERS 4u
#define PATIENCE 30 /* seconds */
#define MOMENT 100  /* ms that something must not happen in */

static struct failure why;

/* Of the source: every seventh page is a hole. */
static uint64_t pattern(uint64_t page)
{
	return page % 7 == 6 ? 0 : 0x5000000000000000 + page;
}

static void fill_page(void *ret, uint64_t value)
{
	for (size_t i = 0; i < WORDS; i++)
		memcpy((char *)ret + i * sizeof value, &value, sizeof value);
}

/* A source that tells what was read of it, fails where it is told to, and waits. */
struct test_source {
	struct memory_source base;
	atomic_uint_fast64_t bad_from, bad_to; /* bytes that can't be read */
	atomic_bool shut;                      /* readers wait */
	atomic_uint waiting, reads;
	uint64_t log[PAGES]; /* where the first of them were */
};

static void nap(void)
{
	nanosleep(&(struct timespec){ 0, 100000 }, NULL);
}

static int test_read(struct memory_source *base, void *buf, size_t n, uint64_t offset)
{
	struct test_source *s = container_of(base, struct test_source, base);
	unsigned int i = atomic_fetch_add(&s->reads, 1);

	if (i < PAGES)
		s->log[i] = offset;
	atomic_fetch_add(&s->waiting, 1);
	while (atomic_load(&s->shut))
		nap();
	atomic_fetch_sub(&s->waiting, 1);
	if (offset < atomic_load(&s->bad_to) && offset + n > atomic_load(&s->bad_from))
		return -EIO;
	for (uint64_t at = 0; at < n; at += PAGE)
		fill_page((char *)buf + at, pattern((offset + at) / PAGE));
	return 0;
}

static int test_data(struct memory_source *base, uint64_t offset, uint64_t *ret_end)
{
	uint64_t page = offset / PAGE, end = page / 7 * 7 + (page % 7 == 6 ? 7 : 6);

	(void)base;
	*ret_end = end * PAGE;
	return page % 7 != 6;
}

static void test_explain(struct memory_source *base, int error, struct failure *ret)
{
	(void)base;
	fail(ret, -error, "the test has it so");
}

static void test_destroy(struct memory_source *base)
{
	free(base);
}

static const struct memory_source_ops test_ops = {
	.read = test_read,
	.data = test_data,
	.explain = test_explain,
	.destroy = test_destroy,
};

static struct test_source *make_source(void)
{
	struct test_source *s = calloc(1, sizeof *s);

	memory_source_init(&s->base, &test_ops, SIZE);
	return s;
}

struct order {
	char what;  /* 'r' read a page, 'w' write one, 'a' check all of them in random order by several threads */
	uint32_t page;
	uint64_t value;
};

struct answer {
	uint64_t first; /* of 'a': how many pages were wrong */
	uint64_t last;
};

struct toucher {
	volatile uint64_t *ram;
	unsigned int id, bad;
};

static void *touch_all(void *data)
{
	struct toucher *t = data;
	uint32_t step = (uint32_t[TOUCHERS]){ 377, 611, 129, 895 }[t->id], page = t->id * 100;

	for (unsigned int i = 0; i < PAGES; i++, page = (page + step) % PAGES) {
		volatile uint64_t *words = t->ram + page * WORDS;

		t->bad += words[(t->id * 100 + i) % WORDS] != pattern(page) || words[0] != pattern(page) || words[WORDS - 1] != pattern(page);
	}
	return NULL;
}

static uint64_t check_all(volatile uint64_t *ram)
{
	struct toucher touchers[TOUCHERS];
	pthread_t threads[TOUCHERS];
	uint64_t bad = 0;

	for (unsigned int i = 0; i < TOUCHERS; i++) {
		touchers[i] = (struct toucher){ ram, i, 0 };
		if (pthread_create(&threads[i], NULL, touch_all, &touchers[i]))
			_exit(5);
	}
	for (unsigned int i = 0; i < TOUCHERS; i++) {
		pthread_join(threads[i], NULL);
		bad += touchers[i].bad;
	}
	return bad;
}

static void obey(volatile uint64_t *ram, int sock)
{
	struct order o;

	while (recv(sock, &o, sizeof o, 0) == sizeof o) {
		volatile uint64_t *words = ram + o.page * WORDS;
		struct answer a = { 0 };

		if (o.what == 'w')
			words[0] = o.value;
		if (o.what == 'a')
			a.first = check_all(ram);
		else
			a = (struct answer){ words[0], words[WORDS - 1] };
		if (send(sock, &a, sizeof a, 0) != sizeof a)
			break;
	}
}

static void be_child(int memfd, int sock)
{
	volatile uint64_t *ram = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	uint64_t base = (uintptr_t)ram;
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { &base, sizeof base };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int uffd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	uffd = uffd_open(-1, UFFD_FEATURES_MISSING | UFFD_FEATURES_CAPTURE);
	if (ram == MAP_FAILED || uffd < 0)
		_exit(3);
	*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof uffd) };
	memcpy(CMSG_DATA(c), &uffd, sizeof uffd);
	if (sendmsg(sock, &m, 0) != sizeof base)
		_exit(4);
	obey(ram, sock);
	_exit(0);
}

struct vm {
	pid_t pid;
	int memfd, uffd, sock;
	uint64_t base;
};

static void receive(struct vm *vm)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &vm->base, sizeof vm->base };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };

	cr_assert_eq(recvmsg(vm->sock, &m, MSG_CMSG_CLOEXEC), (ssize_t)sizeof vm->base);
	cr_assert(CMSG_FIRSTHDR(&m), "no descriptor came");
	memcpy(&vm->uffd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof vm->uffd);
}

/* To be called while this process has no other thread: its child would inherit their locks. */
static void start_vm(struct vm *vm)
{
	int socks[2];

	vm->memfd = memfd_create("ram", MFD_CLOEXEC);
	cr_assert_eq(ftruncate(vm->memfd, SIZE), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks), 0);
	vm->pid = fork();
	if (vm->pid == 0) {
		close(socks[0]);
		be_child(vm->memfd, socks[1]);
	}
	close(socks[1]);
	vm->sock = socks[0];
	receive(vm);
	cr_assert_eq(uffd_register(vm->uffd, vm->base, SIZE, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP), 0);
}

static void kill_child(struct vm *vm)
{
	if (vm->pid)
		kill(vm->pid, SIGKILL);
	if (vm->pid)
		cr_assert_eq(waitpid(vm->pid, NULL, 0), vm->pid);
	vm->pid = 0;
}

static void end_vm(struct vm *vm)
{
	kill_child(vm);
	close_fd(&vm->memfd);
	close_fd(&vm->uffd);
	close_fd(&vm->sock);
}

static void order(const struct vm *vm, char what, uint32_t page, uint64_t value)
{
	struct order o = { .what = what, .page = page, .value = value };

	cr_assert_eq(send(vm->sock, &o, sizeof o, 0), (ssize_t)sizeof o);
}

static bool answers_within(const struct vm *vm, int ms)
{
	struct pollfd p = { vm->sock, POLLIN, 0 };

	return poll(&p, 1, ms) == 1;
}

static struct answer await_answer(const struct vm *vm)
{
	struct answer a;

	cr_assert(answers_within(vm, PATIENCE * 1000), "the child waits for ever");
	cr_assert_eq(recv(vm->sock, &a, sizeof a, 0), (ssize_t)sizeof a);
	return a;
}

static struct answer ask(const struct vm *vm, char what, uint32_t page, uint64_t value)
{
	order(vm, what, page, value);
	return await_answer(vm);
}

static void assert_reads(const struct vm *vm, uint32_t page, uint64_t value)
{
	struct answer a = ask(vm, 'r', page, 0);

	cr_assert(a.first == value && a.last == value, "page %u: %lx … %lx", page, a.first, a.last);
}

static void await(const atomic_int *n, int least, const char *what)
{
	for (time_t end = time(NULL) + PATIENCE; atomic_load(n) < least; nap())
		cr_assert_leq(time(NULL), end, "%s", what);
}

static bool is_there(const struct vm *vm, uint64_t page)
{
	return lseek(vm->memfd, (off_t)(page * PAGE), SEEK_DATA) == (off_t)(page * PAGE);
}

/* Exactly these pages of [0, pages) are in the memfd. */
static void assert_there(const struct vm *vm, uint64_t from, uint64_t to, uint64_t pages)
{
	for (uint64_t page = 0; page < pages; page++)
		cr_assert_eq(is_there(vm, page), page >= from && page < to, "page %lu", page);
}

struct told {
	atomic_int broke, filled;
	struct failure why;
};

static void broke(void *data, const struct failure *reason)
{
	struct told *t = data;

	t->why = *reason;
	atomic_fetch_add(&t->broke, 1);
}

static void filled(void *data)
{
	atomic_fetch_add(&((struct told *)data)->filled, 1);
}

static struct pager_options options_of(const struct vm *vm, struct test_source *source, struct told *told)
{
	return (struct pager_options){
		.uffd = vm->uffd,
		.base = vm->base,
		.size = SIZE,
		.source = source ? &source->base : NULL,
		.broke = broke,
		.filled = filled,
		.data = told,
	};
}

static struct pager *make_pager(void)
{
	struct pager *p;

	cr_assert_eq(pager_create(&p, &why), 0, "%s", why.text);
	return p;
}

static struct pager_region *add(struct pager *p, const struct pager_options *o)
{
	struct pager_region *r;

	cr_assert_eq(pager_add(&r, p, o, &why), 0, "%s", why.text);
	return r;
}

static void nothing(void *data)
{
	(void)data;
}

/* A child goes on a moment before its fault is counted. */
static void await_step(struct pager_region *r)
{
	pager_call(r, nothing, NULL);
}

static void all_pages(bool fill, uint32_t cluster)
{
	struct test_source *source = make_source();
	struct told told = { 0 };
	struct pager_stats stats;
	struct pager_options o;
	struct pager_region *r;
	struct pager *p;
	struct vm vm;

	start_vm(&vm);
	p = make_pager();
	o = options_of(&vm, source, &told);
	o.fill = fill;
	o.cluster = cluster;
	r = add(p, &o);
	cr_assert_eq(ask(&vm, 'a', 0, 0).first, 0, "the child read what was not there");
	if (fill)
		await(&told.filled, 1, "it is never filled");
	assert_there(&vm, 0, PAGES, PAGES);
	await_step(r);
	pager_region_stats(r, &stats);
	cr_assert(fill || stats.faults > 0);
	cr_assert_eq(stats.filled, SIZE);
	cr_assert(stats.complete);
	pager_remove(r);
	cr_assert_eq(atomic_load(&told.broke), 0, "%s", told.why.text);
	cr_assert_eq(atomic_load(&told.filled), fill);
	pager_destroy(p);
	memory_source_unref(&source->base);
	end_vm(&vm);
}

Test(pager, all_pages_on_demand)
{
	all_pages(false, 0);
	all_pages(false, PAGE_BYTES);
	all_pages(false, PAGER_CLUSTER_MAX);
}

Test(pager, all_pages_while_they_are_filled)
{
	for (int i = 0; i < 10; i++)
		all_pages(true, i % 2 ? PAGE_BYTES : 0);
}

/* Pages 6 and 13 are holes. */
Test(pager, clusters)
{
	struct test_source *source = make_source();
	struct page_bits demanded;
	struct pager_options o;
	struct pager_region *r;
	struct pager_stats stats;
	struct told told = { 0 };
	struct pager *p;
	struct vm vm;

	start_vm(&vm);
	p = make_pager();
	cr_assert_eq(page_bits_init(&demanded, PAGES), 0);
	o = options_of(&vm, source, &told);
	o.cluster = 4 * PAGE_BYTES;
	o.demanded = &demanded;
	r = add(p, &o);
	assert_reads(&vm, 5, pattern(5));
	assert_there(&vm, 4, 6, PAGES);
	assert_reads(&vm, 6, 0);
	assert_there(&vm, 4, 7, PAGES);
	assert_reads(&vm, 4, pattern(4));
	assert_reads(&vm, 8, pattern(8));
	assert_there(&vm, 4, 12, 4);
	cr_assert(!is_there(&vm, 7) && is_there(&vm, 8) && is_there(&vm, 11) && !is_there(&vm, 12));
	cr_assert_eq(pager_place(r, 17 * PAGE, PAGE), 0);
	assert_reads(&vm, 18, pattern(18));
	cr_assert(!is_there(&vm, 16) && is_there(&vm, 19), "only what lies next to it, up to what is there");
	await_step(r);
	pager_region_stats(r, &stats);
	cr_assert_eq(stats.faults, 4);
	cr_assert_eq(stats.filled, 10 * PAGE);
	pager_remove(r);
	cr_assert_eq(page_bits_count(&demanded), 9);
	cr_assert(page_bits_test(&demanded, 5) && page_bits_test(&demanded, 6) && page_bits_test(&demanded, 18));
	cr_assert_not(page_bits_test(&demanded, 17), "nobody asked for it");
	page_bits_finish(&demanded);
	pager_destroy(p);
	memory_source_unref(&source->base);
	end_vm(&vm);
}

Test(pager, first_comes_before_the_rest)
{
	AUTO_EXTENTS struct extents first = { 0 };
	struct test_source *source = make_source();
	struct page_bits demanded;
	struct pager_options o;
	struct pager_region *r;
	struct told told = { 0 };
	struct pager *p;
	struct vm vm;

	start_vm(&vm);
	p = make_pager();
	cr_assert_eq(page_bits_init(&demanded, PAGES), 0);
	cr_assert_eq(extents_add(&first, 700 * PAGE, 702 * PAGE), 0);
	cr_assert_eq(extents_add(&first, 900 * PAGE, 901 * PAGE), 0);
	cr_assert_eq(extents_add(&first, (PAGES - 1) * PAGE, (PAGES + 9) * PAGE), 0);
	o = options_of(&vm, source, &told);
	o.first = &first;
	o.fill = true;
	o.demanded = &demanded;
	r = add(p, &o);
	extents_finish(&first);
	await(&told.filled, 1, "it is never filled");
	cr_assert_eq(source->log[0], 700 * PAGE);
	cr_assert_eq(source->log[1], 900 * PAGE);
	cr_assert_eq(source->log[2], (PAGES - 1) * PAGE);
	cr_assert_eq(source->log[3], 0);
	for (uint64_t page = 0; page < PAGES; page++)
		cr_assert_eq(is_there(&vm, page), page % 7 != 6, "page %lu", page);
	cr_assert_eq(ask(&vm, 'a', 0, 0).first, 0);
	pager_remove(r);
	for (uint64_t page = page_bits_next(&demanded, 0, PAGES, true); page < PAGES; page = page_bits_next(&demanded, page + 1, PAGES, true))
		cr_assert_eq(page % 7, 6, "page %lu was there before anybody asked", page);
	cr_assert_eq(atomic_load(&told.filled), 1);
	page_bits_finish(&demanded);
	pager_destroy(p);
	memory_source_unref(&source->base);
	end_vm(&vm);
}

/* What is asked for comes all the same; a region that is removed before it began is as good as any. */
Test(pager, held)
{
	struct test_source *source = make_source();
	struct pager_options o;
	struct pager_region *r;
	struct told told = { 0 };
	struct pager *p;
	struct vm vm;

	start_vm(&vm);
	p = make_pager();
	o = options_of(&vm, source, &told);
	o.fill = o.held = true;
	r = add(p, &o);
	assert_reads(&vm, 700, pattern(700));
	await_step(r);
	cr_assert(is_there(&vm, 700) && !is_there(&vm, 0) && !is_there(&vm, PAGES - 1), "it was to wait");
	cr_assert_eq(atomic_load(&told.filled), 0);
	pager_begin(r);
	await(&told.filled, 1, "it is never filled");
	cr_assert(is_there(&vm, 0));
	pager_remove(r);
	end_vm(&vm);
	start_vm(&vm);
	o = options_of(&vm, source, &told);
	o.fill = o.held = true;
	pager_remove(add(p, &o));
	r = add(p, &o);
	pager_begin(r);
	pager_remove(r);
	pager_destroy(p);
	memory_source_unref(&source->base);
	end_vm(&vm);
}

Test(pager, first_alone)
{
	AUTO_EXTENTS struct extents first = { 0 };
	struct test_source *source = make_source();
	struct pager_options o;
	struct pager_region *r;
	struct told told = { 0 };
	struct pager *p;
	struct vm vm;

	start_vm(&vm);
	p = make_pager();
	cr_assert_eq(extents_add(&first, 100 * PAGE, 200 * PAGE), 0);
	o = options_of(&vm, source, &told);
	o.first = &first;
	r = add(p, &o);
	await(&told.filled, 1, "it is never filled");
	assert_there(&vm, 100, 200, PAGES);
	assert_reads(&vm, 104, 0);
	assert_reads(&vm, 105, pattern(105));
	pager_remove(r);
	pager_destroy(p);
	memory_source_unref(&source->base);
	end_vm(&vm);
}

/* Also what was given back, whatever the source has there. */
Test(pager, zeros)
{
	struct test_source *source = make_source();
	struct pager_options o;
	struct pager_region *r;
	struct told told = { 0 };
	struct pager *p;
	struct vm vm;

	start_vm(&vm);
	p = make_pager();
	o = options_of(&vm, NULL, &told);
	o.fill = true;
	r = add(p, &o);
	assert_reads(&vm, 5, 0);
	cr_assert_eq(ask(&vm, 'w', 5, 7).first, 7);
	pager_remove(r);
	cr_assert_eq(fallocate(vm.memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE), 0);
	o = options_of(&vm, source, &told);
	r = add(p, &o);
	assert_reads(&vm, 5, pattern(5));
	cr_assert_eq(fallocate(vm.memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE), 0);
	assert_reads(&vm, 5, 0);
	pager_remove(r);
	pager_destroy(p);
	memory_source_unref(&source->base);
	end_vm(&vm);
}

/* And is adopted by a pager whose source is better. */
Test(pager, source_that_fails)
{
	struct test_source *source = make_source();
	struct page_bits demanded;
	struct pager_options o;
	struct pager_region *r;
	struct told told = { 0 };
	struct pager *p;
	struct vm vm;

	start_vm(&vm);
	p = make_pager();
	cr_assert_eq(page_bits_init(&demanded, PAGES), 0);
	atomic_store(&source->bad_from, 9 * PAGE);
	atomic_store(&source->bad_to, 12 * PAGE);
	o = options_of(&vm, source, &told);
	o.demanded = &demanded;
	r = add(p, &o);
	assert_reads(&vm, 8, pattern(8));
	await_step(r);
	cr_assert_eq(page_bits_count(&demanded), 1, "a neighbour cost it its mark");
	cr_assert_eq(atomic_load(&told.broke), 0);
	cr_assert_eq(pager_place(r, 9 * PAGE, 1), -EIO);
	cr_assert_eq(atomic_load(&told.broke), 0);
	order(&vm, 'r', 9, 0);
	await(&told.broke, 1, "nothing is told");
	cr_assert_eq(told.why.code, EIO);
	cr_assert_str_eq(told.why.text, "the test has it so");
	cr_assert_not(answers_within(&vm, MOMENT), "it got something");
	cr_assert_not(is_there(&vm, 9));
	cr_assert_eq(pager_place(r, 20 * PAGE, 1), -EIO);
	pager_remove(r);
	cr_assert_not(answers_within(&vm, MOMENT));
	pager_destroy(p);
	cr_assert_eq(atomic_load(&told.broke), 1);
	atomic_store(&source->bad_to, 0);
	p = make_pager();
	o.adopt = true;
	r = add(p, &o);
	cr_assert_eq(await_answer(&vm).first, pattern(9));
	cr_assert_eq(ask(&vm, 'a', 0, 0).first, 0);
	pager_remove(r);
	pager_destroy(p);
	page_bits_finish(&demanded);
	memory_source_unref(&source->base);
	end_vm(&vm);
}

Test(pager, source_that_fails_in_the_background)
{
	struct test_source *source = make_source();
	struct pager_options o;
	struct pager_region *r;
	struct pager_stats stats;
	struct told told = { 0 };
	struct pager *p;
	struct vm vm;

	start_vm(&vm);
	p = make_pager();
	atomic_store(&source->bad_from, 500 * PAGE);
	atomic_store(&source->bad_to, 501 * PAGE);
	o = options_of(&vm, source, &told);
	o.fill = true;
	r = add(p, &o);
	await(&told.broke, 1, "nothing is told");
	pager_region_stats(r, &stats);
	cr_assert_not(stats.complete);
	order(&vm, 'r', 500, 0);
	cr_assert_not(answers_within(&vm, MOMENT));
	pager_remove(r);
	cr_assert(atomic_load(&told.broke) == 1 && atomic_load(&told.filled) == 0);
	pager_destroy(p);
	memory_source_unref(&source->base);
	end_vm(&vm);
}

static void await_reader(struct test_source *s)
{
	for (time_t end = time(NULL) + PATIENCE; !atomic_load(&s->waiting); nap())
		cr_assert_leq(time(NULL), end, "nobody reads");
}

Test(pager, child_killed_while_it_is_served)
{
	for (int fill = 0; fill < 2; fill++) {
		struct test_source *source = make_source();
		struct told told = { 0 };
		struct pager_options o;
		struct pager_region *r;
		struct pager *p;
		struct vm vm;

		start_vm(&vm);
		p = make_pager();
		atomic_store(&source->shut, true);
		o = options_of(&vm, source, &told);
		o.fill = fill;
		r = add(p, &o);
		if (!fill)
			order(&vm, 'a', 0, 0);
		await_reader(source);
		kill_child(&vm);
		atomic_store(&source->shut, false);
		await(&told.broke, 1, "nothing is told");
		cr_assert_eq(told.why.code, ESRCH);
		cr_assert(*told.why.text);
		cr_assert_eq(pager_place(r, 0, SIZE), -EIO);
		pager_remove(r);
		cr_assert_eq(atomic_load(&told.broke), 1);
		o.adopt = true;
		cr_assert_eq(pager_add(&r, p, &o, &why), -ESRCH);
		pager_destroy(p);
		memory_source_unref(&source->base);
		end_vm(&vm);
	}
}

Test(pager, place)
{
	struct test_source *source = make_source();
	struct told told = { 0 };
	struct pager_options o;
	struct pager_region *r;
	struct pager *p;
	struct vm vm;
	char c;

	start_vm(&vm);
	p = make_pager();
	o = options_of(&vm, source, &told);
	r = add(p, &o);
	cr_assert_eq(pager_place(r, 7 * PAGE + 100, PAGE), 0);
	assert_there(&vm, 7, 9, PAGES);
	cr_assert_eq(pread(vm.memfd, &c, 1, 8 * PAGE), 1);
	cr_assert_eq((uint64_t)c, pattern(8) & 0xff);
	cr_assert_eq(pwrite(vm.memfd, &(uint64_t){ 99 }, 8, 8 * PAGE), 8);
	cr_assert_eq(ask(&vm, 'r', 8, 0).first, 99);
	cr_assert_eq(ask(&vm, 'r', 8, 0).last, pattern(8));
	cr_assert_eq(pager_place(r, 8 * PAGE, PAGE), 0);
	cr_assert_eq(ask(&vm, 'r', 8, 0).first, 99, "placed again");
	cr_assert_eq(pwrite(vm.memfd, &(uint64_t){ 98 }, 8, 40 * PAGE), 8);
	cr_assert_eq(pager_place(r, 39 * PAGE, 3 * PAGE), 0, "one of them is there");
	cr_assert_eq(ask(&vm, 'r', 40, 0).first, 98);
	assert_reads(&vm, 39, pattern(39));
	assert_reads(&vm, 41, 0);
	cr_assert_eq(pager_place(r, 5, 0), 0);
	cr_assert_eq(pager_place(r, SIZE, 1), 0);
	cr_assert_eq(pager_place(r, SIZE - 1, UINT64_MAX), 0);
	cr_assert(is_there(&vm, PAGES - 1));
	cr_assert_eq(pager_place(r, 0, SIZE), 0);
	assert_there(&vm, 0, PAGES, PAGES);
	pager_remove(r);
	pager_destroy(p);
	memory_source_unref(&source->base);
	end_vm(&vm);
}

struct opening {
	struct test_source *source;
	pid_t waiter;
};

/* Lets the readers go on once the thread `waiter` sleeps. */
static void *open_later(void *data)
{
	const struct opening *o = data;
	char path[64], state = 'R';

	snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)o->waiter);
	for (time_t end = time(NULL) + PATIENCE; state != 'S' && time(NULL) <= end; nap()) {
		FILE *f = fopen(path, "re");

		if (!f || fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			state = 'R';
		if (f)
			fclose(f);
	}
	atomic_store(&o->source->shut, false);
	return NULL;
}

Test(pager, removed_with_faults_outstanding)
{
	for (int i = 0; i < 10; i++) {
		struct test_source *source = make_source();
		struct told told = { 0 };
		struct pager_options o;
		struct pager_region *r;
		struct pager *p;
		struct opening opening;
		pthread_t thread;
		struct vm vm;

		start_vm(&vm);
		p = make_pager();
		atomic_store(&source->shut, true);
		o = options_of(&vm, source, &told);
		o.cluster = PAGE_BYTES;
		r = add(p, &o);
		order(&vm, 'a', 0, 0);
		await_reader(source);
		opening = (struct opening){ source, gettid() };
		cr_assert_eq(pthread_create(&thread, NULL, open_later, &opening), 0);
		pager_remove(r);
		pthread_join(thread, NULL);
		if (i == 0)
			cr_assert_not(answers_within(&vm, MOMENT));
		o.adopt = true;
		r = add(p, &o);
		cr_assert_eq(await_answer(&vm).first, 0);
		pager_remove(r);
		cr_assert_eq(atomic_load(&told.broke), 0);
		pager_destroy(p);
		memory_source_unref(&source->base);
		end_vm(&vm);
	}
}

/* A pager that dies takes the messages with it that it has read, and leaves what it has protected. */
Test(pager, adopts_from_one_that_died)
{
	struct test_source *source = make_source();
	struct told told = { 0 };
	struct pager_options o;
	struct pager_region *r;
	struct uffd_msg lost;
	struct pager *p;
	struct vm vm;

	start_vm(&vm);
	cr_assert_eq(pwrite(vm.memfd, &(uint64_t){ 5 }, 8, 3 * PAGE), 8);
	cr_assert_eq(ask(&vm, 'r', 3, 0).first, 5);
	cr_assert_eq(uffd_writeprotect(vm.uffd, vm.base, SIZE, true), 0);
	order(&vm, 'w', 3, 17);
	for (time_t end = time(NULL) + PATIENCE; uffd_read(vm.uffd, &lost, 1) != 1; nap())
		cr_assert_leq(time(NULL), end, "no fault comes");
	cr_assert(lost.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP);
	p = make_pager();
	o = options_of(&vm, source, &told);
	r = add(p, &o);
	cr_assert_not(answers_within(&vm, MOMENT), "nobody knows of it");
	pager_remove(r);
	o.adopt = true;
	r = add(p, &o);
	cr_assert_eq(await_answer(&vm).first, 17);
	pager_remove(r);
	cr_assert_eq(uffd_unregister(vm.uffd, vm.base, SIZE), 0);
	cr_assert_eq(uffd_register(vm.uffd, vm.base, SIZE, UFFDIO_REGISTER_MODE_MISSING), 0);
	order(&vm, 'r', 8, 0);
	for (time_t end = time(NULL) + PATIENCE; uffd_read(vm.uffd, &lost, 1) != 1; nap())
		cr_assert_leq(time(NULL), end, "no fault comes");
	r = add(p, &o);
	cr_assert_eq(await_answer(&vm).first, pattern(8));
	pager_remove(r);
	pager_destroy(p);
	memory_source_unref(&source->base);
	end_vm(&vm);
}

/* The process has the same open file as we, and could keep the thread of all the others waiting. */
Test(pager, descriptor_that_its_process_spoils)
{
	struct test_source *source = make_source();
	struct told told = { 0 }, good = { 0 };
	struct pager_options o;
	struct pager_region *r, *other;
	struct vm vm, second;
	struct pager *p;

	start_vm(&vm);
	start_vm(&second);
	p = make_pager();
	o = options_of(&vm, source, &told);
	r = add(p, &o);
	o = options_of(&second, source, &good);
	other = add(p, &o);
	assert_reads(&vm, 0, pattern(0));
	cr_assert_eq(fcntl(vm.uffd, F_SETFL, fcntl(vm.uffd, F_GETFL) & ~O_NONBLOCK), 0);
	order(&vm, 'r', 100, 0);
	await(&told.broke, 1, "nothing is told");
	cr_assert_eq(told.why.code, ESRCH);
	cr_assert_eq(ask(&second, 'a', 0, 0).first, 0);
	cr_assert_eq(atomic_load(&good.broke), 0);
	pager_remove(r);
	pager_remove(other);
	pager_destroy(p);
	memory_source_unref(&source->base);
	end_vm(&vm);
	end_vm(&second);
}

Test(pager, what_can_not_be_served)
{
	AUTO_CLOSE int plain = memfd_create("plain", MFD_CLOEXEC);
	struct told told = { 0 };
	struct pager_options good, o;
	struct pager_region *r = NULL;
	struct pager *p;
	struct vm vm;

	start_vm(&vm);
	p = make_pager();
	good = options_of(&vm, NULL, &told);
	o = good;
	o.size = PAGE + 1;
	cr_assert_eq(pager_add(&r, p, &o, &why), -EINVAL);
	o.size = 0;
	cr_assert_eq(pager_add(&r, p, &o, NULL), -EINVAL);
	o = good;
	o.cluster = 3 * PAGE_BYTES;
	cr_assert_eq(pager_add(&r, p, &o, &why), -EINVAL);
	o.cluster = 2 * PAGER_CLUSTER_MAX;
	cr_assert_eq(pager_add(&r, p, &o, &why), -EINVAL);
	o = good;
	o.uffd = -1;
	cr_assert_eq(pager_add(&r, p, &o, &why), -EBADF);
	o.uffd = plain;
	cr_assert_eq(pager_add(&r, p, &o, &why), -EPERM);
	cr_assert_eq(r, NULL);
	pager_remove(NULL);
	pager_destroy(p);
	pager_destroy(NULL);
	end_vm(&vm);
}

static unsigned int count(const char *dir)
{
	unsigned int n = 0;
	DIR *d = opendir(dir);

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

Test(pager, leaves_nothing_behind)
{
	unsigned int fds = count("/proc/self/fd"), threads = count("/proc/self/task");

	for (int i = 0; i < 50; i++) {
		struct test_source *source = make_source();
		struct told told = { 0 };
		struct pager_options o;
		struct pager_region *r;
		struct pager *p;
		struct vm vm;

		start_vm(&vm);
		p = make_pager();
		o = options_of(&vm, source, &told);
		o.fill = i % 2;
		r = add(p, &o);
		order(&vm, 'a', 0, 0);
		if (i % 3 == 0)
			kill_child(&vm);
		else if (i % 3 == 1)
			cr_assert_eq(await_answer(&vm).first, 0);
		pager_remove(r);
		pager_destroy(p);
		cr_assert_eq(atomic_load(&source->base.refs), 1);
		memory_source_unref(&source->base);
		end_vm(&vm);
	}
	cr_assert_eq(count("/proc/self/fd"), fds);
	/* A thread that was joined is there for a moment yet. */
	for (time_t end = time(NULL) + PATIENCE; count("/proc/self/task") > threads; nap())
		cr_assert_leq(time(NULL), end, "threads are left");
}
