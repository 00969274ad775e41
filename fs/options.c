/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/options.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/text.h"

const char options_help[] =
	"usage: forkfs [-f] [-o OPTION[,OPTION…]] [SOURCE] MOUNTPOINT\n"
	"\n"
	"Mounts a filesystem whose directories are forks of microVMs; MOUNTPOINT/help describes it.\n"
	"\n"
	"  -f             stay in the foreground, messages to stderr\n"
	"  -d             the same, and show every request of the kernel's\n"
	"  -h, --help     this text\n"
	"  -V, --version  the version\n"
	"  -o state=DIR   where the daemon keeps what a successor needs; by default one a mount point,\n"
	"                 under /run/forkfs, for an ordinary user under $XDG_RUNTIME_DIR\n"
	"  -o keep        at its end (umount, SIGTERM) leave the VMs running, for the next daemon on that state\n"
	"  -o allow_other users beside the one who mounts may use it\n"
	"  -o log=LEVEL   error, warn, info (default) or debug\n"
	"  -o KEY=VALUE   any setting of MOUNTPOINT/config, e.g. vmm=qemu,forks_max=100\n"
	"  and mount(8)'s own: ro, rw, suid, nosuid, dev, nodev, exec, noexec, atime, noatime …\n";

/* Those of mount(8) that concern the kernel; it and fstab also hand over some that concern nobody here. */
static const char *const kernel_words[] = { "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "atime", "noatime", "sync", "async", "dirsync" };
static const char *const idle_words[] = { "auto", "noauto", "user", "nouser", "users", "owner", "nofail", "_netdev", "defaults", "relatime", "norelatime" };

static bool among(const char *word, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(word, words[i]))
			return true;
	return false;
}

static int set_string(char **at, const char *value)
{
	free(*at);
	*at = strdup(value);
	return *at ? 0 : -ENOMEM;
}

static int add_kernel_word(struct options *o, const char *word)
{
	AUTO_FREE char *old = o->mount;

	return asprintf(&o->mount, "%s%s%s", old && *old ? old : "", old && *old ? "," : "", word) < 0 ? -ENOMEM : 0;
}

static int set_log(struct options *o, const char *value, struct failure *why)
{
	int level = log_level_parse(value);

	if (level < 0)
		return fail(why, EINVAL, "-o log=%s: error, warn, info or debug", value);
	o->log = (enum log_level)level;
	return 0;
}

static int set_state(struct options *o, const char *value, struct failure *why)
{
	if (*value != '/')
		return fail(why, EINVAL, "-o state=%s: is not an absolute path", value);
	return set_string(&o->state, value);
}

static int key_value(struct options *o, const char *word, char *value, struct failure *why)
{
	int key;

	if (!strcmp(word, "state"))
		return set_state(o, value, why);
	if (!strcmp(word, "log"))
		return set_log(o, value, why);
	if (!strcmp(word, "fsname"))
		return set_string(&o->source, value);
	if (!strcmp(word, "subtype"))
		return 0;
	key = config_find(word);
	if (key < 0)
		return fail(why, EINVAL, "-o %s: there is no such option", word);
	return config_set(&o->config, (enum config_id)key, value, why) < 0 ? fail_within(why, "-o") : 0;
}

static int one_option(struct options *o, char *word, struct failure *why)
{
	char *value = strchr(word, '=');

	if (!*word || among(word, idle_words, ARRAY_LEN(idle_words)) || !strncmp(word, "x-", 2))
		return 0;
	if (!strcmp(word, "allow_other")) {
		o->allow_other = true;
		return 0;
	}
	if (!strcmp(word, "keep")) {
		o->keep = true;
		return 0;
	}
	if (among(word, kernel_words, ARRAY_LEN(kernel_words)))
		return add_kernel_word(o, word);
	if (!value)
		return fail(why, EINVAL, "-o %s: there is no such option", word);
	*value = '\0';
	return key_value(o, word, value + 1, why);
}

static int option_list(struct options *o, const char *list, struct failure *why)
{
	AUTO_FREE char *copy = strdup(list);
	char *save = NULL;
	int r = copy ? 0 : -ENOMEM;

	for (char *word = copy ? strtok_r(copy, ",", &save) : NULL; word && r == 0; word = strtok_r(NULL, ",", &save))
		r = one_option(o, word, why);
	return r == -ENOMEM ? fail(why, ENOMEM, "no memory") : r;
}

static int parse_flags(struct options *o, int argc, char **argv, struct failure *why)
{
	static const struct option longs[] = { { "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'V' }, { 0 } };
	int c, r = 0;

	opterr = 0;
	while (r == 0 && (c = getopt_long(argc, argv, "fdhVso:", longs, NULL)) != -1) {
		switch (c) {
		case 'd':
			o->debug = true;
			__attribute__((fallthrough));
		case 'f':
			o->foreground = true;
			break;
		case 'h':
			o->help = true;
			break;
		case 'V':
			o->version = true;
			break;
		case 's':
			break; /* single-threaded, as it always is */
		case 'o':
			r = option_list(o, optarg, why);
			break;
		default:
			r = fail(why, EINVAL, "%s: there is no such option (see --help)", argv[optind - 1]);
		}
	}
	return r;
}

/* "/var/lib/x" → "var-lib-x". */
static char *state_name(const char *mountpoint)
{
	char *name = strdup(mountpoint[1] ? mountpoint + 1 : "-");

	for (char *at = name; at && *at; at++)
		if (*at == '/')
			*at = '-';
	return name;
}

static int default_state(struct options *o, struct failure *why)
{
	const char *base = geteuid() == 0 ? "/run" : getenv("XDG_RUNTIME_DIR");
	AUTO_FREE char *name = state_name(o->mountpoint);

	if (!base || *base != '/')
		return fail(why, EINVAL, "XDG_RUNTIME_DIR isn't set: say where the state is to be kept, -o state=DIR");
	if (!name || asprintf(&o->state, "%s/forkfs/%s", base, name) < 0)
		return fail(why, ENOMEM, "no memory");
	return 0;
}

int options_parse(struct options *o, int argc, char **argv, struct failure *why)
{
	int r;

	*o = (struct options){ .log = LOG_LEVEL_INFO };
	r = parse_flags(o, argc, argv, why);
	if (r < 0 || o->help || o->version)
		return r;
	if (argc - optind < 1 || argc - optind > 2)
		return fail(why, EINVAL, "forkfs takes a MOUNTPOINT, perhaps a SOURCE before it (see --help)");
	if (!o->source && set_string(&o->source, argc - optind == 2 ? argv[optind] : "forkfs") < 0)
		return fail(why, ENOMEM, "no memory");
	o->mountpoint = realpath(argv[argc - 1], NULL);
	if (!o->mountpoint && errno == ENOTCONN) /* a dead mount: its name will do */
		o->mountpoint = *argv[argc - 1] == '/' ? strdup(argv[argc - 1]) : NULL;
	if (!o->mountpoint)
		return fail_errno(why, errno ?: ENOMEM, "%s", argv[argc - 1]);
	return o->state ? 0 : default_state(o, why);
}

void options_finish(struct options *o)
{
	free(o->source);
	free(o->mountpoint);
	free(o->state);
	free(o->mount);
	config_finish(&o->config);
}
