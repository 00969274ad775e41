/* SPDX-License-Identifier: Apache-2.0
 *
 * The daemon's own messages. Each keeps errno. Safe from any thread. */
#ifndef FORKFS_BASE_LOG_H
#define FORKFS_BASE_LOG_H

#include "vmm/base/cleanup.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

typedef void (*log_sink)(enum log_level level, const char *line);

/* Until this is called lines go to stderr at level info. `sink` NULL: stderr. */
void log_init(enum log_level level, log_sink sink);

/* "error", "warn", "info", "debug" → the level, else -EINVAL. */
int log_level_parse(const char *name);

void log_write(enum log_level level, const char *fmt, ...) PRINTF(2, 3);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
