/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "tests/unit/busy_vm.h"
#include "tests/unit/patience.h"
#include "vmm/memory/uffd.h"

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

static void be_busy(volatile uint64_t *ram, int sock, void *data)
{
	static struct writer writers[WRITERS];
	pthread_t thread;

	(void)sock;
	for (unsigned int i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){ data, ram, i };
		if (pthread_create(&thread, NULL, write_for_ever, &writers[i]))
			_exit(6);
	}
	for (;;)
		pause();
}

static bool is_private(const struct vm *vm)
{
	return vm->kind == WHOLE || vm->kind == DELTA;
}

/* The first `pages` of it have their pattern, the others are a hole. */
static int make_memory(uint64_t pages)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);
	uint64_t words[WORDS];

	cr_assert_eq(ftruncate(fd, SIZE), 0);
	for (uint64_t page = 0; page < pages; page++) {
		fill_page(words, pattern(page));
		if (pattern(page))
			cr_assert_eq(pwrite(fd, words, PAGE, (off_t)(page * PAGE)), (ssize_t)PAGE);
	}
	return fd;
}

static void start_child(struct vm *vm)
{
	struct uffd_child_options o = {
		.memory = make_memory(vm->kind == OVER_SOURCE ? PAGES / 2 : PAGES),
		.size = SIZE,
		.flags = is_private(vm) ? MAP_PRIVATE : MAP_SHARED,
		.modes = UFFDIO_REGISTER_MODE_WP | (vm->kind == OVER_SOURCE ? UFFDIO_REGISTER_MODE_MISSING : 0),
		.work = be_busy,
	};

	o.data = vm->control = mmap(NULL, sizeof *vm->control, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	atomic_store(&vm->control->limit, 100);
	uffd_child_start(&vm->child, &o);
}

static void start_pager(struct vm *vm)
{
	struct pager_options options = {
		.uffd = vm->child.uffd,
		.base = vm->child.base,
		.size = SIZE,
		.source = vm->kind == OVER_SOURCE ? vm->source : NULL,
	};
	struct failure why;

	cr_assert_eq(pager_create(&vm->pager, &why), 0, "%s", why.text);
	cr_assert_eq(pager_add(&vm->paged, vm->pager, &options, &why), 0, "%s", why.text);
}

void start_vm(struct vm *vm, enum kind kind)
{
	AUTO_CLOSE int file = kind == OVER_SOURCE ? make_memory(PAGES) : -1;
	struct failure why;

	*vm = (struct vm){ .kind = kind };
	start_child(vm);
	if (kind == OVER_SOURCE || kind == DELTA)
		cr_assert_eq(memory_source_create_file(&vm->source, file >= 0 ? file : vm->child.memory, SIZE, NULL, &why), 0, "%s", why.text);
	start_pager(vm);
	if (is_private(vm))
		cr_assert_eq(region_create_file(&vm->region, vm->child.memory, SIZE, &why), 0);
	else
		vm->region = (struct region){ REGION_SHARED, SIZE, fcntl(vm->child.memory, F_DUPFD_CLOEXEC, 3) };
	cr_assert_eq(region_view_open(&vm->view, &vm->region, vm->child.pid, &why), 0, "%s", why.text);
	vm->view.under = vm->source;
	vm->view.writer = is_private(vm) ? vm->child.pid : 0;
}

void end_vm(struct vm *vm)
{
	uffd_child_kill(&vm->child);
	pager_remove(vm->paged);
	pager_destroy(vm->pager);
	region_view_finish(&vm->view);
	region_finish(&vm->region);
	memory_source_unref(vm->source);
	cr_assert_eq(atomic_load(&vm->control->bad), 0, "the child found pages that were not as it had left them");
	munmap(vm->control, sizeof *vm->control);
	uffd_child_end(&vm->child);
}

void stop_child(const struct vm *vm)
{
	int status;

	cr_assert_eq(kill(vm->child.pid, SIGSTOP), 0);
	cr_assert_eq(waitpid(vm->child.pid, &status, WUNTRACED), vm->child.pid);
	cr_assert(WIFSTOPPED(status));
}

void continue_child(const struct vm *vm)
{
	cr_assert_eq(kill(vm->child.pid, SIGCONT), 0);
}

void await_writes(const struct vm *vm, uint64_t n)
{
	uint64_t from = atomic_load(&vm->control->order);

	for (time_t end = time(NULL) + PATIENCE; atomic_load(&vm->control->order) < from + n;)
		cr_assert_not(is_late(end), "the child stands still%s", waitpid(vm->child.pid, NULL, WNOHANG) ? ": it is dead" : "");
}

void look(const struct vm *vm, char *ret)
{
	struct iovec to = { ret, SIZE }, from = { (void *)(uintptr_t)vm->child.base, SIZE };

	if (is_private(vm)) {
		cr_assert_eq(process_vm_readv(vm->child.pid, &to, 1, &from, 1, 0), (ssize_t)SIZE);
		return;
	}
	cr_assert_eq(pread(vm->child.memory, ret, SIZE, 0), (ssize_t)SIZE);
	for (uint64_t page = 0; vm->kind == OVER_SOURCE && page < PAGES; page++)
		if (!is_there(&vm->child, page))
			fill_page(ret + page * PAGE, pattern(page));
}
