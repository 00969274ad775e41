/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "vmm/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was accepted is printed, and the print read again: both times it is the same recipe. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_TEXT struct text t = { 0 }, again = { 0 };
	struct recipe first, second;
	struct failure why;

	if (recipe_parse(&first, (const char *)data, size, &why) < 0)
		return 0;
	recipe_print(&first, &t);
	if (t.failed || recipe_parse(&second, t.data, t.len, &why) < 0)
		abort();
	recipe_print(&second, &again);
	if (again.failed || t.len != again.len || memcmp(t.data, again.data, t.len))
		abort();
	return 0;
}
