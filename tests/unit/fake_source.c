/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/fake_source.h"
#include "tests/unit/patience.h"

static int fake_read(struct memory_source *base, void *buf, size_t n, uint64_t offset)
{
	struct fake_source *s = container_of(base, struct fake_source, base);
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

static int fake_data(struct memory_source *base, uint64_t offset, uint64_t *ret_end)
{
	uint64_t page = offset / PAGE, end = page / 7 * 7 + (page % 7 == 6 ? 7 : 6);

	(void)base;
	*ret_end = end * PAGE;
	return page % 7 != 6;
}

static void fake_explain(struct memory_source *base, int error, struct failure *ret)
{
	(void)base;
	fail(ret, -error, "the test has it so");
}

static void fake_destroy(struct memory_source *base)
{
	free(base);
}

static const struct memory_source_ops fake_ops = {
	.read = fake_read,
	.data = fake_data,
	.explain = fake_explain,
	.destroy = fake_destroy,
};

struct fake_source *fake_source_create(void)
{
	struct fake_source *s = calloc(1, sizeof *s);

	memory_source_init(&s->base, &fake_ops, SIZE);
	return s;
}
