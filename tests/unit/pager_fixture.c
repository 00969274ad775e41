/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "tests/unit/pager_fixture.h"

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

void fixture_start(struct fixture *f)
{
	struct failure why;

	*f = (struct fixture){ .source = fake_source_create() };
	pager_child_start(&f->child);
	cr_assert_eq(pager_create(&f->pager, &why), 0, "%s", why.text);
	f->options = (struct pager_options){
		.uffd = f->child.uffd,
		.base = f->child.base,
		.size = SIZE,
		.source = &f->source->base,
		.broke = broke,
		.filled = filled,
		.data = &f->told,
	};
}

void fixture_serve(struct fixture *f)
{
	struct failure why;

	cr_assert_eq(pager_add(&f->region, f->pager, &f->options, &why), 0, "%s", why.text);
}

void fixture_remove(struct fixture *f)
{
	pager_remove(f->region);
	f->region = NULL;
}

void fixture_end(struct fixture *f)
{
	fixture_remove(f);
	pager_destroy(f->pager);
	cr_assert_eq(atomic_load(&f->source->base.refs), 1);
	memory_source_unref(&f->source->base);
	uffd_child_end(&f->child);
}

static void nothing(void *data)
{
	(void)data;
}

void await_step(struct fixture *f)
{
	pager_call(f->region, nothing, NULL);
}
