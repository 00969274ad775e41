/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "vmm/working_set.h"

#define SIZE (1ull << 30)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was accepted lies within the memory, in order; it is printed, and the print read again: both times it is the same. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_TEXT struct text t = { 0 };
	struct working_set *first, *second;
	struct failure why;
	uint64_t last = 0;

	if (working_set_parse(&first, (const char *)data, size, "abc", SIZE, &why) < 0)
		return 0;
	for (size_t i = 0; i < first->pages.count; i++) {
		const struct extent *x = &first->pages.list[i];

		if (x->start < last || x->start >= x->end || x->end > SIZE || x->start % PAGE_BYTES || x->end % PAGE_BYTES)
			abort();
		last = x->end;
	}
	working_set_print(&first->pages, "abc", SIZE, &t);
	if (t.failed || working_set_parse(&second, t.data, t.len, "abc", SIZE, &why) < 0)
		abort();
	if (first->pages.count != second->pages.count ||
	    (first->pages.count && memcmp(first->pages.list, second->pages.list, first->pages.count * sizeof *first->pages.list)))
		abort();
	working_set_unref(first);
	working_set_unref(second);
	return 0;
}
