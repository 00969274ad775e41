/* SPDX-License-Identifier: Apache-2.0
 *
 * STATE/config.json: what was written into the root's config/, for the next daemon: {"started": {KEY: VALUE, …}, "now": {KEY: VALUE, …}}. The daemon writes it for itself. */
#ifndef FORKFS_SETTINGS_H
#define FORKFS_SETTINGS_H

#include "vmm/config.h"

#define SETTINGS_FILE "config.json"

/* Below the directory `state`. `started`: as the daemon was told when it began. Returns 0 or a negative errno. */
int settings_write(int state, const struct config *started, const struct config *now);

/* Gives `now`, which is as `started`, what the former daemon had; but where this one was told something else to begin with, that is the later word. Returns 0; -ENOENT there was none; or another
 * negative errno, with a sentence, and nothing is changed. */
int settings_read(int state, const struct config *started, struct config *now, struct failure *why);

#endif
