/* SPDX-License-Identifier: Apache-2.0
 *
 * A child process maps RAM and rewrites it all the while; the captures of it are compared with what it had when it was stopped. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "vmm/memory/live_capture.h"
#include "vmm/memory/uffd.h"

#define PAGE ((uint64_t)PAGE_BYTES)
#define PAGES 2048u
#define SIZE (PAGES * PAGE)
#define WORDS (PAGE / sizeof(uint64_t))
#define WRITERS 2u
#define VMS 5
#define CAPTURES_OF_A_VM 5
#define PATIENCE 30 /* seconds */

enum kind {
	SHARED,
	OVER_SOURCE, /* shared; half of its pages are in a source yet */
	WHOLE,       /* private; all of it is captured */
	DELTA,       /* private; the process's own pages are */
};

static struct failure why;

/* Between parent and child. */
struct control {
	atomic_uint_fast64_t order; /* of all writes */
	atomic_uint limit;          /* how many pages are written to */
	atomic_uint bad;            /* pages that had not what was written there last */
	_Atomic uint64_t base;
};

/* What is there before anybody writes. */
static uint64_t pattern(uint64_t page)
{
	return page % 3 == 2 ? 0 : 0x5000000000000000 + page;
}

static void fill_page(uint64_t *words, uint64_t value)
{
	for (size_t i = 0; i < WORDS; i++)
		words[i] = value;
}

struct writer {
	struct control *control;
	volatile uint64_t *ram;
	unsigned int id;
};

/* Every fourth page is read alone. A page has one writer, who knows what he wrote there. */
static void *write_for_ever(void *data)
{
	const struct writer *w = data;
	static uint64_t last[WRITERS][PAGES];
	unsigned int random = w->id + 1;

	for (uint64_t page = 0; page < PAGES; page++)
		last[w->id][page] = pattern(page);
	for (;;) {
		uint64_t page, value;

		random = random * 1664525 + 1013904223;
		page = (uint64_t)(random >> 8) % atomic_load(&w->control->limit) * 7 % PAGES;
		if (page % WRITERS != w->id)
			continue;
		if (w->ram[page * WORDS] != last[w->id][page] || w->ram[page * WORDS + WORDS - 1] != last[w->id][page])
			atomic_fetch_add(&w->control->bad, 1);
		if (page % 4 == 0)
			continue;
		value = last[w->id][page] = atomic_fetch_add(&w->control->order, 1) + 1;
		for (size_t i = 0; i < WORDS; i++)
			w->ram[page * WORDS + i] = value;
	}
	return NULL;
}

static void send_fd(int sock, int fd)
{
	char control[CMSG_SPACE(sizeof fd)] = { 0 };
	char u = 0;
	struct iovec iov = { &u, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	if (sendmsg(sock, &m, 0) != 1)
		_exit(2);
}

static int receive_fd(int sock)
{
	char control[CMSG_SPACE(sizeof(int))], c;
	struct iovec iov = { &c, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	int fd;

	cr_assert_eq(recvmsg(sock, &m, MSG_CMSG_CLOEXEC), 1);
	cr_assert(CMSG_FIRSTHDR(&m), "no descriptor came");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	return fd;
}

static void be_child(int memory, bool private, int sock, struct control *control)
{
	static struct writer writers[WRITERS];
	pthread_t thread;
	int uffd;
	char c;
	volatile uint64_t *ram = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, private ? MAP_PRIVATE : MAP_SHARED, memory, 0);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	uffd = uffd_open(-1, UFFD_FEATURES_MISSING | UFFD_FEATURES_CAPTURE);
	if (ram == MAP_FAILED || uffd < 0)
		_exit(3);
	atomic_store(&control->base, (uintptr_t)ram);
	send_fd(sock, uffd);
	if (read(sock, &c, 1) != 1)
		_exit(4);
	for (unsigned int i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){ control, ram, i };
		if (pthread_create(&thread, NULL, write_for_ever, &writers[i]))
			_exit(5);
	}
	for (;;)
		pause();
}

struct vm {
	enum kind kind;
	pid_t pid;
	int memory, uffd;
	struct control *control;
	struct region region;
	struct region_view view;
	struct memory_source *source;
	struct pager *pager;
	struct pager_region *paged;
};

static int make_memory(uint64_t from, uint64_t to)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);
	uint64_t words[WORDS];

	cr_assert_eq(ftruncate(fd, SIZE), 0);
	for (uint64_t page = from; page < to; page++) {
		fill_page(words, pattern(page));
		if (pattern(page))
			cr_assert_eq(pwrite(fd, words, PAGE, (off_t)(page * PAGE)), (ssize_t)PAGE);
	}
	return fd;
}

static void start_child(struct vm *vm)
{
	bool private = vm->kind == WHOLE || vm->kind == DELTA;
	int socks[2];

	vm->control = mmap(NULL, sizeof *vm->control, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	atomic_store(&vm->control->limit, 100);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks), 0);
	vm->pid = fork();
	if (vm->pid == 0)
		be_child(vm->memory, private, socks[1], vm->control);
	close(socks[1]);
	vm->uffd = receive_fd(socks[0]);
	cr_assert_eq(uffd_register(vm->uffd, vm->control->base, SIZE,
				   UFFDIO_REGISTER_MODE_WP | (vm->kind == OVER_SOURCE ? UFFDIO_REGISTER_MODE_MISSING : 0)), 0);
	cr_assert_eq(write(socks[0], "g", 1), 1);
	close(socks[0]);
}

static void start_vm(struct vm *vm, enum kind kind)
{
	struct pager_options options = { 0 };
	int file = -1;

	*vm = (struct vm){ .kind = kind };
	vm->memory = make_memory(0, kind == OVER_SOURCE ? PAGES / 2 : PAGES);
	if (kind == OVER_SOURCE)
		file = make_memory(0, PAGES);
	if (kind == OVER_SOURCE || kind == DELTA)
		cr_assert_eq(memory_source_create_file(&vm->source, file >= 0 ? file : vm->memory, SIZE, NULL, &why), 0, "%s", why.text);
	close_fd(&file);
	start_child(vm);
	cr_assert_eq(pager_create(&vm->pager, &why), 0, "%s", why.text);
	options.uffd = vm->uffd;
	options.base = vm->control->base;
	options.size = SIZE;
	options.source = kind == OVER_SOURCE ? vm->source : NULL;
	cr_assert_eq(pager_add(&vm->paged, vm->pager, &options, &why), 0, "%s", why.text);
	if (kind == WHOLE || kind == DELTA)
		cr_assert_eq(region_create_file(&vm->region, vm->memory, SIZE, &why), 0);
	else
		vm->region = (struct region){ REGION_SHARED, SIZE, fcntl(vm->memory, F_DUPFD_CLOEXEC, 3) };
	cr_assert_eq(region_view_open(&vm->view, &vm->region, vm->pid, &why), 0, "%s", why.text);
	vm->view.under = vm->source;
	vm->view.writer = kind == WHOLE || kind == DELTA ? vm->pid : 0;
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
	pager_remove(vm->paged);
	pager_destroy(vm->pager);
	region_view_finish(&vm->view);
	region_finish(&vm->region);
	memory_source_unref(vm->source);
	cr_assert_eq(atomic_load(&vm->control->bad), 0, "the child found pages that were not as it had left them");
	munmap(vm->control, sizeof *vm->control);
	close_fd(&vm->memory);
	close_fd(&vm->uffd);
}

static void stop_child(const struct vm *vm)
{
	int status;

	cr_assert_eq(kill(vm->pid, SIGSTOP), 0);
	cr_assert_eq(waitpid(vm->pid, &status, WUNTRACED), vm->pid);
	cr_assert(WIFSTOPPED(status));
}

static bool is_late(time_t end)
{
	nanosleep(&(struct timespec){ 0, 100000 }, NULL);
	return time(NULL) > end;
}

static void await_writes(const struct vm *vm, uint64_t n)
{
	uint64_t from = atomic_load(&vm->control->order);

	for (time_t end = time(NULL) + PATIENCE; atomic_load(&vm->control->order) < from + n;)
		cr_assert_not(is_late(end), "the child stands still%s", waitpid(vm->pid, NULL, WNOHANG) ? ": it is dead" : "");
}

/* What the child sees, without the capture's code. */
static void look(const struct vm *vm, char *ret)
{
	struct iovec to = { ret, SIZE }, from = { (void *)(uintptr_t)vm->control->base, SIZE };

	if (vm->kind == WHOLE || vm->kind == DELTA) {
		cr_assert_eq(process_vm_readv(vm->pid, &to, 1, &from, 1, 0), (ssize_t)SIZE);
		return;
	}
	cr_assert_eq(pread(vm->memory, ret, SIZE, 0), (ssize_t)SIZE);
	for (uint64_t page = 0; vm->kind == OVER_SOURCE && page < PAGES; page++)
		if (lseek(vm->memory, (off_t)(page * PAGE), SEEK_DATA) != (off_t)(page * PAGE))
			fill_page((uint64_t *)(void *)(ret + page * PAGE), pattern(page));
}

struct outcome {
	atomic_int calls, result;
	char text[1024];
};

static void done(void *data, int result, const struct failure *reason)
{
	struct outcome *o = data;

	snprintf(o->text, sizeof o->text, "%s", reason ? reason->text : "");
	atomic_store(&o->result, result);
	atomic_fetch_add(&o->calls, 1);
}

static int await_done(const struct outcome *o)
{
	for (time_t end = time(NULL) + PATIENCE; !atomic_load(&o->calls);)
		cr_assert_not(is_late(end), "the capture doesn't end");
	cr_assert_eq(atomic_load(&o->calls), 1);
	return atomic_load(&o->result);
}

static int arm(struct live_capture **ret, const struct vm *vm, int file, struct outcome *o)
{
	struct live_capture_options options = { .region = vm->paged, .view = &vm->view, .file = file, .done = done, .data = o };

	return live_capture_arm(ret, &options, &why);
}

static void assert_page(const char *a, const char *b, uint64_t page, const char *when)
{
	cr_assert_eq(memcmp(a + page * PAGE, b + page * PAGE, PAGE), 0, "page %lu differs %s: %lx, it was %lx", page, when,
		     ((const uint64_t *)(const void *)a)[page * WORDS], ((const uint64_t *)(const void *)b)[page * WORDS]);
}

static void compare(struct memory_source *image, const char *expected, uint64_t piece, const char *when)
{
	static char buf[SIZE];

	for (uint64_t at = 0; at < SIZE; at += piece)
		cr_assert_eq(memory_source_read(image, buf + at, SIZE - at < piece ? SIZE - at : piece, at), 0);
	for (uint64_t page = 0; page < PAGES; page++)
		assert_page(buf, expected, page, when);
}

struct reader {
	const struct live_capture *capture;
	struct memory_source *image;
	const char *expected;
	atomic_bool stop;
	unsigned int bad, reads;
};

static void read_at(struct reader *r, uint64_t at)
{
	char buf[3 * PAGE_BYTES];

	if (at > SIZE - sizeof buf)
		at = SIZE - sizeof buf;
	r->bad += memory_source_read(r->image, buf, sizeof buf, at) != 0 || memcmp(buf, r->expected + at, sizeof buf) != 0;
	r->reads++;
}

/* Backwards, and about where the capture is just now. */
static void *read_all_the_while(void *data)
{
	struct reader *r = data;

	while (!atomic_load(&r->stop))
		for (uint64_t at = SIZE; at >= 3 * PAGE && !atomic_load(&r->stop); at -= 2 * PAGE + 100) {
			struct live_capture_progress p;

			read_at(r, at);
			live_capture_progress(r->capture, &p);
			read_at(r, p.total ? p.copied / PAGE * PAGES / (p.total / PAGE) * PAGE + at % PAGE : 0);
		}
	return NULL;
}

/* The file has the pages, and of a delta the process's own alone. */
static void compare_file(const struct vm *vm, int file, struct memory_source *image, const char *expected)
{
	static char buf[SIZE];
	uint64_t own = 0, own_bytes;
	struct extent x = { 0, 0 };
	struct stat st;

	cr_assert_eq(pread(file, buf, SIZE, 0), (ssize_t)SIZE);
	cr_assert_eq(fstat(file, &st), 0);
	cr_assert_eq(st.st_size, SIZE);
	if (vm->kind != DELTA) {
		for (uint64_t page = 0; page < PAGES; page++)
			assert_page(buf, expected, page, "in the file");
		return;
	}
	for (own_bytes = 0; memory_source_own(image, x.end, &x) > 0; own_bytes += x.end - x.start)
		for (uint64_t page = x.start / PAGE; page < x.end / PAGE; page++, own++) {
			cr_assert_neq(page % 4, 0, "page %lu was never written to", page);
			assert_page(buf, expected, page, "in the delta");
		}
	cr_assert_gt(own, 0);
	cr_assert_leq((uint64_t)st.st_blocks * 512, own_bytes, "the delta has more than the process's own pages");
	for (uint64_t page = 0; page < PAGES; page++) {
		const uint64_t *words = (const void *)(expected + page * PAGE);

		if (words[0] != pattern(page) || words[WORDS - 1] != pattern(page))
			cr_assert(memory_source_own(image, page * PAGE, &x) > 0 && x.start == page * PAGE, "page %lu is missing", page);
	}
}

/* Returns whether pages were read while they were not captured yet. */
static bool capture(const struct vm *vm, int round)
{
	static char expected[SIZE];
	AUTO_CLOSE int file = memfd_create("capture", MFD_CLOEXEC);
	struct live_capture_progress progress;
	struct outcome outcome = { 0 };
	struct reader reader = { .expected = expected };
	struct live_capture *c;
	pthread_t thread;
	bool early;

	cr_assert_eq(arm(&c, vm, file, &outcome), 0, "%s", why.text);
	await_writes(vm, 20 + 20 * (uint64_t)(round % 3));
	atomic_store(&vm->control->limit, 100u + 120u * (unsigned int)round);
	stop_child(vm);
	look(vm, expected);
	cr_assert_eq(live_capture_stop(c), 0);
	atomic_store(&vm->control->limit, 200u + 300u * (unsigned int)round);
	if (round % 2) {
		kill(vm->pid, SIGCONT);
		await_writes(vm, 100);
	}
	cr_assert_eq(live_capture_run(c), 0);
	kill(vm->pid, SIGCONT);
	reader.capture = c;
	reader.image = live_capture_source(c);
	cr_assert_eq(pthread_create(&thread, NULL, read_all_the_while, &reader), 0);
	live_capture_progress(c, &progress);
	early = progress.copied < progress.total;
	compare(reader.image, expected, 5 * PAGE + 17, "during the capture");
	cr_assert_eq(await_done(&outcome), 0, "%s", outcome.text);
	atomic_store(&reader.stop, true);
	pthread_join(thread, NULL);
	cr_assert_eq(reader.bad, 0, "%u of %u reads beside it", reader.bad, reader.reads);
	live_capture_progress(c, &progress);
	cr_assert_eq(progress.copied, progress.total);
	await_writes(vm, 100);
	compare(reader.image, expected, SIZE, "afterwards");
	live_capture_destroy(c);
	await_writes(vm, 100);
	compare(reader.image, expected, 64 * PAGE, "when the capture was gone");
	compare_file(vm, file, reader.image, expected);
	memory_source_unref(reader.image);
	cr_assert_eq(atomic_load(&outcome.calls), 1);
	return early;
}

static void capture_many(enum kind kind)
{
	int early = 0;

	for (int i = 0; i < VMS; i++) {
		struct vm vm;

		start_vm(&vm, kind);
		for (int round = 0; round < CAPTURES_OF_A_VM; round++)
			early += capture(&vm, round);
		end_vm(&vm);
	}
	cr_assert_gt(early, 0, "nothing was read during a capture");
}

Test(live_capture, shared)
{
	capture_many(SHARED);
}

Test(live_capture, shared_over_a_source)
{
	capture_many(OVER_SOURCE);
}

Test(live_capture, private_whole)
{
	capture_many(WHOLE);
}

Test(live_capture, private_delta)
{
	capture_many(DELTA);
}

/* Up to the state: 0 armed, 1 stopped, 2 running. */
static struct live_capture *bring_to(const struct vm *vm, int state, int file, struct outcome *o)
{
	struct live_capture *c;

	cr_assert_eq(arm(&c, vm, file, o), 0, "%s", why.text);
	await_writes(vm, 20);
	if (state < 1)
		return c;
	stop_child(vm);
	cr_assert_eq(live_capture_stop(c), 0);
	kill(vm->pid, SIGCONT);
	if (state > 1)
		live_capture_run(c);
	return c;
}

Test(live_capture, cancelled_in_each_state)
{
	for (enum kind kind = SHARED; kind <= DELTA; kind++) {
		struct vm vm;

		start_vm(&vm, kind);
		atomic_store(&vm.control->limit, PAGES);
		for (int state = 0; state < 3; state++) {
			AUTO_CLOSE int file = memfd_create("capture", MFD_CLOEXEC);
			struct outcome outcome = { 0 };
			struct live_capture *c = bring_to(&vm, state, file, &outcome);
			struct memory_source *image = live_capture_source(c);
			struct pager_stats before, after;
			int calls, r;
			char buf[16];

			live_capture_cancel(c);
			pager_region_stats(vm.paged, &before);
			calls = atomic_load(&outcome.calls);
			cr_assert(calls == 0 || (state == 2 && calls == 1));
			await_writes(&vm, 4 * PAGES);
			pager_region_stats(vm.paged, &after);
			cr_assert(calls || after.writes <= before.writes + WRITERS, "something is protected yet");
			r = memory_source_read(image, buf, sizeof buf, PAGE);
			cr_assert(r == -ECANCELED || (r == 0 && (state > 0 || kind == DELTA)), "state %d: %d", state, r);
			if (!calls)
				cr_assert_eq(live_capture_stop(c), -ECANCELED);
			live_capture_cancel(c);
			live_capture_destroy(c);
			memory_source_unref(image);
			cr_assert_eq(atomic_load(&outcome.calls), calls);
		}
		capture(&vm, 1);
		end_vm(&vm);
	}
	live_capture_destroy(NULL);
}

/* In the last state it may have been through before. */
Test(live_capture, child_killed_in_each_state)
{
	for (enum kind kind = SHARED; kind <= DELTA; kind++)
		for (int state = 0; state < 3; state++) {
			AUTO_CLOSE int file = memfd_create("capture", MFD_CLOEXEC);
			struct outcome outcome = { 0 };
			struct live_capture *c;
			struct vm vm;
			int r;

			start_vm(&vm, kind);
			c = bring_to(&vm, state, file, &outcome);
			kill_child(&vm);
			if (state < 1)
				live_capture_stop(c);
			live_capture_run(c);
			r = await_done(&outcome);
			cr_assert(r == -ESRCH || (state == 2 && r == 0), "%d", r);
			cr_assert(r == 0 || *outcome.text);
			if (r < 0)
				cr_assert_eq(live_capture_run(c), -ESRCH);
			live_capture_destroy(c);
			r = arm(&c, &vm, file, &outcome);
			cr_assert(r == -ESRCH || r == -EIO, "kind %d, state %d: %d, %s", kind, state, r, why.text);
			end_vm(&vm);
		}
}

static void fail_to_write(int file, int expected)
{
	for (enum kind kind = SHARED; kind <= DELTA; kind++) {
		struct outcome outcome = { 0 };
		struct live_capture *c;
		struct vm vm;

		start_vm(&vm, kind);
		atomic_store(&vm.control->limit, PAGES);
		await_writes(&vm, 4 * PAGES);
		c = bring_to(&vm, 2, file, &outcome);
		cr_assert_eq(await_done(&outcome), expected, "%s", outcome.text);
		cr_assert(*outcome.text);
		await_writes(&vm, 4 * PAGES);
		cr_assert_eq(live_capture_run(c), expected);
		cr_assert_eq(live_capture_claim(c, 0, PAGE), expected);
		live_capture_destroy(c);
		capture(&vm, 1);
		end_vm(&vm);
		cr_assert_eq(ftruncate(file, 0), 0);
	}
}

Test(live_capture, file_without_room)
{
	char dir[] = "/tmp/test_live_capture.XXXXXX", path[64];
	int file;

	cr_assert(mkdtemp(dir));
	if (mount("none", dir, "tmpfs", 0, "size=512k")) {
		rmdir(dir);
		cr_skip_test("no tmpfs may be mounted");
	}
	snprintf(path, sizeof path, "%s/file", dir);
	file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	umount2(dir, MNT_DETACH);
	rmdir(dir);
	cr_assert_geq(file, 0);
	fail_to_write(file, -ENOSPC);
	close(file);
}

Test(live_capture, file_that_may_not_be_written)
{
	struct outcome outcome = { 0 };
	struct live_capture *c;
	struct vm vm;
	int file = memfd_create("capture", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	cr_assert_eq(ftruncate(file, SIZE), 0);
	cr_assert_eq(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE), 0);
	start_vm(&vm, SHARED);
	c = bring_to(&vm, 2, file, &outcome);
	cr_assert_eq(await_done(&outcome), -EPERM);
	live_capture_destroy(c);
	await_writes(&vm, 1000);
	cr_assert_eq(arm(&c, &vm, -1, &outcome), -EBADF);
	close(file);
	end_vm(&vm);
}

/* The second try must not unprotect what the first one has protected. */
Test(live_capture, one_at_a_time)
{
	static char expected[SIZE];
	AUTO_CLOSE int file = memfd_create("capture", MFD_CLOEXEC), other = memfd_create("other", MFD_CLOEXEC);
	struct outcome outcome = { 0 }, none = { 0 };
	struct live_capture *c, *second = NULL;
	struct memory_source *image;
	struct vm vm;

	start_vm(&vm, SHARED);
	cr_assert_eq(arm(&c, &vm, file, &outcome), 0);
	cr_assert_eq(arm(&second, &vm, other, &none), -EBUSY);
	cr_assert_eq(why.code, EBUSY);
	stop_child(&vm);
	look(&vm, expected);
	cr_assert_eq(live_capture_stop(c), 0);
	cr_assert_eq(arm(&second, &vm, other, &none), -EBUSY);
	kill(vm.pid, SIGCONT);
	await_writes(&vm, 1000);
	cr_assert_eq(live_capture_run(c), 0);
	image = live_capture_source(c);
	cr_assert_eq(await_done(&outcome), 0);
	compare(image, expected, SIZE, "afterwards");
	memory_source_unref(image);
	live_capture_destroy(c);
	cr_assert_eq(second, NULL);
	cr_assert_eq(atomic_load(&none.calls), 0);
	end_vm(&vm);
}

/* Written past the child's protection, before and after the stop: pages 0 and 4, which the child only reads, are left as they were in the end. */
static void claim_and_write(enum kind kind)
{
	static char expected[SIZE];
	AUTO_CLOSE int file = memfd_create("capture", MFD_CLOEXEC);
	struct outcome outcome = { 0 };
	struct memory_source *image;
	struct live_capture *c;
	uint64_t words[WORDS];
	struct vm vm;

	start_vm(&vm, kind);
	await_writes(&vm, 100);
	cr_assert_eq(arm(&c, &vm, file, &outcome), 0, "%s", why.text);
	stop_child(&vm);
	cr_assert_eq(live_capture_claim(c, 0, 8), 0);
	cr_assert_eq(live_capture_claim(c, SIZE, 8), 0);
	cr_assert_eq(live_capture_claim(c, SIZE - 1, UINT64_MAX), 0);
	fill_page(words, 0xaaaa);
	cr_assert_eq(region_view_write(&vm.view, words, PAGE, 0), (ssize_t)PAGE);
	look(&vm, expected);
	cr_assert_eq(live_capture_stop(c), 0);
	fill_page(words, 0xbbbb);
	cr_assert_eq(live_capture_claim(c, 0, PAGE), 0);
	cr_assert_eq(live_capture_claim(c, 4 * PAGE + 100, 1), 0);
	cr_assert_eq(region_view_write(&vm.view, words, PAGE, 0), (ssize_t)PAGE);
	cr_assert_eq(region_view_write(&vm.view, words, PAGE, 4 * PAGE), (ssize_t)PAGE);
	cr_assert_eq(live_capture_run(c), 0);
	image = live_capture_source(c);
	cr_assert_eq(await_done(&outcome), 0, "%s", outcome.text);
	compare(image, expected, SIZE, "afterwards");
	cr_assert_eq(((uint64_t *)(void *)expected)[0], 0xaaaa);
	memory_source_unref(image);
	live_capture_destroy(c);
	fill_page(words, pattern(0));
	cr_assert_eq(region_view_write(&vm.view, words, PAGE, 0), (ssize_t)PAGE);
	fill_page(words, pattern(4));
	cr_assert_eq(region_view_write(&vm.view, words, PAGE, 4 * PAGE), (ssize_t)PAGE);
	kill(vm.pid, SIGCONT);
	end_vm(&vm);
}

Test(live_capture, claimed_by_the_caller)
{
	claim_and_write(SHARED);
	claim_and_write(WHOLE);
	claim_and_write(DELTA);
}

/* Of a stopped child: until the pager has answered all that was asked, for what it is about to place can't be placed where nothing is registered. */
static void settle(const struct vm *vm)
{
	struct pollfd asked = { vm->uffd, POLLIN, 0 };
	time_t end = time(NULL) + PATIENCE;

	do {
		cr_assert_not(is_late(end), "the pager doesn't answer");
		cr_assert_eq(pager_place(vm->paged, 0, PAGE), 0); /* behind what its thread is at */
	} while (poll(&asked, 1, 0) > 0);
	cr_assert_eq(pager_place(vm->paged, 0, PAGE), 0);
}

/* The pager goes on serving a region that can't be captured. */
Test(live_capture, region_that_is_not_registered_for_it)
{
	AUTO_CLOSE int file = memfd_create("capture", MFD_CLOEXEC);
	struct outcome outcome = { 0 };
	struct live_capture *c = NULL;
	struct vm vm;
	int r;

	start_vm(&vm, OVER_SOURCE);
	stop_child(&vm);
	settle(&vm);
	cr_assert_eq(uffd_unregister(vm.uffd, vm.control->base, SIZE), 0);
	cr_assert_eq(uffd_register(vm.uffd, vm.control->base, SIZE, UFFDIO_REGISTER_MODE_MISSING), 0);
	kill(vm.pid, SIGCONT);
	for (int i = 0; i < 20; i++) {
		atomic_store(&vm.control->limit, 100u * (unsigned int)(i + 1));
		r = arm(&c, &vm, file, &outcome);
		cr_assert_eq(r, -ENOENT, "%d, %s", r, why.text);
	}
	await_writes(&vm, 4 * PAGES);
	cr_assert_eq(c, NULL);
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

Test(live_capture, leaves_nothing_behind)
{
	unsigned int fds = count("/proc/self/fd"), threads = count("/proc/self/task");

	for (int i = 0; i < 50; i++) {
		struct outcome outcome = { 0 };
		int file = memfd_create("capture", MFD_CLOEXEC);
		struct live_capture *c;
		struct vm vm;

		start_vm(&vm, (enum kind)(i % 4));
		c = bring_to(&vm, i % 3, file, &outcome);
		if (i % 5 == 0)
			kill_child(&vm);
		if (i % 3 == 2)
			await_done(&outcome);
		live_capture_destroy(c);
		end_vm(&vm);
		close(file);
	}
	cr_assert_eq(count("/proc/self/fd"), fds);
	/* A thread that was joined is there for a moment yet. */
	for (time_t end = time(NULL) + PATIENCE; count("/proc/self/task") > threads;)
		cr_assert_not(is_late(end), "threads are left");
}
