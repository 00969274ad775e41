/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "tests/unit/fake_source.h"
#include "tests/unit/pager_child.h"
#include "tests/unit/patience.h"
#include "vmm/memory/uffd.h"

#define TOUCHERS 4u

struct order {
	char what;
	uint32_t page;
	uint64_t value;
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
			_exit(6);
	}
	for (unsigned int i = 0; i < TOUCHERS; i++) {
		pthread_join(threads[i], NULL);
		bad += touchers[i].bad;
	}
	return bad;
}

static void obey(volatile uint64_t *ram, int sock, void *data)
{
	struct order o;

	(void)data;
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

void pager_child_start(struct uffd_child *c)
{
	struct uffd_child_options o = {
		.memory = memfd_create("ram", MFD_CLOEXEC),
		.size = SIZE,
		.flags = MAP_SHARED,
		.modes = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
		.work = obey,
	};

	cr_assert_eq(ftruncate(o.memory, SIZE), 0);
	uffd_child_start(c, &o);
}

void order(const struct uffd_child *c, char what, uint32_t page, uint64_t value)
{
	struct order o = { .what = what, .page = page, .value = value };

	cr_assert_eq(send(c->sock, &o, sizeof o, 0), (ssize_t)sizeof o);
}

bool answers_within(const struct uffd_child *c, int ms)
{
	struct pollfd p = { c->sock, POLLIN, 0 };

	return poll(&p, 1, ms) == 1;
}

struct answer await_answer(const struct uffd_child *c)
{
	struct answer a;

	cr_assert(answers_within(c, PATIENCE * 1000), "the child waits for ever");
	cr_assert_eq(recv(c->sock, &a, sizeof a, 0), (ssize_t)sizeof a);
	return a;
}

struct answer ask(const struct uffd_child *c, char what, uint32_t page, uint64_t value)
{
	order(c, what, page, value);
	return await_answer(c);
}

void assert_reads(const struct uffd_child *c, uint32_t page, uint64_t value)
{
	struct answer a = ask(c, 'r', page, 0);

	cr_assert(a.first == value && a.last == value, "page %u: %lx … %lx", page, a.first, a.last);
}

void assert_there(const struct uffd_child *c, uint64_t from, uint64_t to, uint64_t pages)
{
	for (uint64_t page = 0; page < pages; page++)
		cr_assert_eq(is_there(c, page), page >= from && page < to, "page %lu", page);
}
