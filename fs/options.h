/* SPDX-License-Identifier: Apache-2.0
 *
 * The command line: forkfs [-f] [-o OPTION,…] [SOURCE] MOUNTPOINT */
#ifndef FORKFS_OPTIONS_H
#define FORKFS_OPTIONS_H

#include <stdbool.h>

#include "vmm/base/log.h"
#include "vmm/config.h"

struct options {
	bool foreground, help, version, keep, allow_other, debug;
	char *source;      /* as /proc/mounts shows it */
	char *mountpoint;  /* absolute, resolved */
	char *state;       /* the state directory, absolute */
	enum log_level log;
	struct config config;
	char *mount;       /* "-o" words for the kernel, comma-separated; "" none */
};

/* Returns 0, or a negative errno with a sentence. `o` is to be finished in both cases. */
int options_parse(struct options *o, int argc, char **argv, struct failure *why);
void options_finish(struct options *o);

/* What --help prints. */
extern const char options_help[];

#endif
