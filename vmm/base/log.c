/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARN] = "warn",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

static void to_stderr(enum log_level level, const char *line)
{
	fprintf(stderr, "forkfs: %s: %s\n", names[level], line);
}

/* Written once, before the first thread is made. */
static enum log_level threshold = LOG_LEVEL_INFO;
static log_sink sink = to_stderr;

void log_init(enum log_level level, log_sink to)
{
	threshold = level;
	sink = to ?: to_stderr;
}

int log_level_parse(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (!strcmp(names[i], name))
			return (int)i;
	return -EINVAL;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	int saved = errno;
	char line[2048];
	va_list ap;

	if (level > threshold)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	sink(level, line);
	errno = saved;
}
