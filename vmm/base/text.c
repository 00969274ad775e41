/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool reserve(struct text *t, size_t more)
{
	size_t size = t->size ?: 256;
	char *data;

	if (t->failed)
		return false;
	while (size < t->len + more + 1)
		size *= 2;
	if (size == t->size)
		return true;
	data = realloc(t->data, size);
	if (!data) {
		t->failed = true;
		return false;
	}
	t->data = data;
	t->size = size;
	return true;
}

void text_append(struct text *t, const void *data, size_t n)
{
	if (!reserve(t, n))
		return;
	if (n)
		memcpy(t->data + t->len, data, n);
	t->len += n;
	t->data[t->len] = '\0';
}

void text_puts(struct text *t, const char *s)
{
	text_append(t, s, strlen(s));
}

void text_printf(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || !reserve(t, (size_t)n)) {
		t->failed = true;
		return;
	}
	va_start(ap, fmt);
	vsnprintf(t->data + t->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	t->len += (size_t)n;
}

void text_finish(struct text *t)
{
	free(t->data);
	*t = (struct text){ 0 };
}
