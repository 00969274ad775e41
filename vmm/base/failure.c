/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/failure.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void one_line(char *s)
{
	for (; *s; s++)
		if (iscntrl((unsigned char)*s))
			*s = '?';
}

int fail(struct failure *f, int code, const char *fmt, ...)
{
	va_list ap;

	if (!f)
		return -code;
	f->code = code;
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof f->text, fmt, ap);
	va_end(ap);
	one_line(f->text);
	return -code;
}

int fail_errno(struct failure *f, int code, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	if (!f)
		return -code;
	f->code = code;
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof f->text, fmt, ap);
	va_end(ap);
	n = strlen(f->text);
	snprintf(f->text + n, sizeof f->text - n, ": %s", strerrordesc_np(code) ?: "unknown error");
	one_line(f->text);
	return -code;
}

int fail_within(struct failure *f, const char *fmt, ...)
{
	char inner[sizeof f->text];
	va_list ap;
	size_t n;

	if (!f)
		return -EIO;
	memcpy(inner, f->text, sizeof inner);
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof f->text, fmt, ap);
	va_end(ap);
	n = strlen(f->text);
	snprintf(f->text + n, sizeof f->text - n, ": %.*s", (int)(sizeof inner - 1), inner);
	one_line(f->text);
	return -f->code;
}
