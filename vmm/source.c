/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/source.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/io.h"
#include "vmm/base/log.h"
#include "vmm/host.h"

#define KERNEL_MAX (1ul << 30) /* bytes of a kernel or an initrd */
#define DEFAULT_ARGS "console=ttyS0 reboot=t panic=-1"

void source_init(struct source *s)
{
	*s = (struct source){ .kernel = -1, .initrd = -1 };
}

void source_finish(struct source *s)
{
	caller_unref(s->caller);
	caller_unref(s->self);
	config_finish(&s->config);
	origin_unref(s->origin);
	close_fd(&s->kernel);
	close_fd(&s->initrd);
	free(s->args);
	source_init(s);
}

static const char *binary_of(const struct config *c, const struct driver *driver)
{
	int key = config_find(driver->name);

	return key < 0 ? NULL : config_get(c, (enum config_id)key);
}

/* "auto", for a boot: the first that is usable here; where none is the last one says why. */
static const struct driver *choose(const struct source *s, struct driver_facts *facts)
{
	const struct driver *last = NULL;

	for (size_t i = 0; drivers[i]; i++) {
		if (!drivers[i]->automatic)
			continue;
		host_driver(drivers[i], binary_of(&s->config, drivers[i]), facts);
		last = drivers[i];
		if (facts->usable && facts->boots && !facts->avoid)
			break;
	}
	return last;
}

/* `name`: the one driver that will do, or "auto". */
static int find_driver(struct source *s, const char *name, struct failure *why)
{
	if (!strcmp(name, "auto")) {
		s->driver = choose(s, &s->facts);
	} else {
		s->driver = driver_find(name);
		if (s->driver)
			host_driver(s->driver, binary_of(&s->config, s->driver), &s->facts);
	}
	if (!s->driver)
		return fail(why, ENODEV, "this forkfs has no driver %s", name);
	if (s->facts.usable)
		return 0;
	*why = s->facts.why;
	return -why->code;
}

/* The state was written by one VMM under one kind of acceleration: no other can load it. */
static int fit_restore(struct source *s, const struct snapshot *snapshot, struct failure *why)
{
	const char *vmm = config_get(&s->config, CONFIG_VMM), *accel = config_get(&s->config, CONFIG_ACCEL);
	int r;

	if (strcmp(vmm, "auto") && strcmp(vmm, s->recipe.driver))
		return fail(why, EOPNOTSUPP, "the snapshot was written by %s, config/vmm says %s", s->recipe.driver, vmm);
	if (strcmp(accel, "auto") && s->recipe.accel[0] && strcmp(accel, s->recipe.accel))
		return fail(why, EOPNOTSUPP, "the snapshot was taken under %s, config/accel says %s", s->recipe.accel, accel);
	r = find_driver(s, s->recipe.driver, why);
	if (r < 0)
		return r;
	snprintf(s->recipe.driver_version, sizeof s->recipe.driver_version, "%s", s->facts.version); /* whose it is from now on */
	if (!strcmp(s->recipe.accel, "kvm") && !s->facts.accel_kvm)
		return fail(why, EOPNOTSUPP, "the snapshot was taken under KVM, which can't run guests here (see doctor)");
	s->backend = origin_backend(config_get(&s->config, CONFIG_MEMORY_BACKEND));
	s->region = !strcmp(s->backend, "memfd-shared") || !strcmp(s->backend, "userfault") ? REGION_SHARED : REGION_FILE;
	r = s->driver->check(&s->recipe, s->region, &s->facts, why);
	if (r == 0 && s->driver->check_state)
		r = s->driver->check_state(&s->recipe, snapshot->vmstate, &s->facts, why);
	if (r == 0 && !s->facts.sets_clock && !strcmp(config_get(&s->config, CONFIG_CLOCK), "realtime"))
		return fail(why, EOPNOTSUPP, "config/clock says realtime, which %s %s can't set", s->recipe.driver, s->facts.version);
	if (r == 0 && snapshot->delta && s->region == REGION_FILE && !s->facts.places)
		return fail(why, EOPNOTSUPP, "the snapshot is a few pages over another memory, which this %s can't be given: a copy of it (cp -r) is whole", s->recipe.driver);
	return r;
}

/* What was taken in memory, by this daemon, doesn't change any more and is shared as it is; what is a file of somebody's is copied once. */
static int find_template(struct source *s, struct origin *o, struct failure *why)
{
	uint64_t keep = config_number(&s->config, CONFIG_TEMPLATES_MAX) << 20;
	struct snapshot *snapshot = o->snapshot;
	int r = 0;

	if (!snapshot->delta)
		r = snapshot_wait(snapshot, s->cancelled, why);
	if (r == 0 && !snapshot->template && strcmp(o->backend, "memfd-private"))
		return 0;
	if (r == 0 && !snapshot->template)
		r = snapshot_memory(snapshot, &o->memory, why);
	if (r == 0 && !snapshot->template)
		return template_get(&o->template, snapshot->file, o->memory, keep, s->cancelled, why);
	if (r == 0) {
		o->template = template_ref(snapshot->template);
		o->memory = snapshot->memory;
	}
	return r;
}

static void set_fill(const struct source *s, struct origin *o)
{
	const char *fill = config_get(&s->config, CONFIG_FILL);

	o->fill_must = strcmp(fill, "auto");
	if (!strcmp(o->backend, "userfault")) {
		o->fill = !strcmp(fill, "background") ? FILL_BACKGROUND : FILL_ONDEMAND;
		o->fill_must = true;
	} else {
		o->fill = !strcmp(fill, "eager") ? FILL_EAGER : !strcmp(fill, "background") ? FILL_BACKGROUND : FILL_ONDEMAND;
	}
	if (o->fill == FILL_EAGER)
		o->fill_must = false;
}

static int read_set(struct source *s, struct origin *o, int dir, char **ret, size_t *ret_n)
{
	AUTO_CLOSE int path = caller_open_at(o->writer, dir, WORKING_SET_FILE, NULL), fd = -1;

	(void)s;
	if (path < 0)
		return path;
	fd = caller_read(o->writer, path, WORKING_SET_FILE, NULL);
	return fd < 0 ? fd : read_file(fd, WORKING_SET_MAX, ret, ret_n);
}

/* A set that can't be used is as good as none: the guest's pages come when they are asked for. */
static void find_set(struct source *s, struct origin *o, int dir)
{
	const char *how = config_get(&s->config, CONFIG_WORKING_SET), *identity = s->recipe.memory.identity;
	AUTO_FREE char *text = NULL;
	struct failure why;
	size_t n;
	int r;

	if (o->fill == FILL_EAGER || !strcmp(how, "off") || !*identity || dir < 0)
		return;
	o->writer = caller_ref(o->snapshot->dir >= 0 ? s->self : s->caller);
	r = read_set(s, o, dir, &text, &n);
	if (r == 0 && n)
		r = working_set_parse(&o->set, text, n, identity, s->recipe.ram_size, &why);
	if (r == -EINVAL)
		log_warn("%s/" WORKING_SET_FILE ": %s", s->path, why.text);
	o->learn = !strcmp(how, "record") || !o->set;
	if (o->learn)
		o->dir = fcntl(dir, F_DUPFD_CLOEXEC, 3);
	if (!strcmp(how, "record")) { /* what is placed teaches nothing */
		working_set_unref(o->set);
		o->set = NULL;
	}
}

static int find_memory(struct source *s, struct origin *o, int dir, struct failure *why)
{
	int r;

	if (o->region == REGION_FILE)
		return find_template(s, o, why);
	r = snapshot_memory(o->snapshot, &o->memory, why);
	if (r < 0)
		return r;
	set_fill(s, o);
	find_set(s, o, dir);
	return 0;
}

/* Of a setting that may be "none". */
static bool set_string(char **ret, const struct config *c, enum config_id id)
{
	const char *value = config_get(c, id);

	return !strcmp(value, "none") || (*ret = strdup(value));
}

static int make_origin(struct source *s, struct snapshot *snapshot, int dir, struct failure *why)
{
	struct origin *o = origin_create();
	int r;

	if (!o) {
		snapshot_unref(snapshot);
		return fail(why, ENOMEM, "%s: no memory", s->path);
	}
	s->origin = o;
	o->snapshot = snapshot;
	s->recipe = snapshot->recipe;
	r = fit_restore(s, snapshot, why);
	if (r < 0)
		return r;
	o->driver = s->driver;
	o->program = s->facts.program;
	o->backend = s->backend;
	o->region = s->region;
	o->realtime = !strcmp(config_get(&s->config, CONFIG_CLOCK), "realtime");
	if (!set_string(&o->disks, &s->config, CONFIG_DISK_DIR) || !set_string(&o->network, &s->config, CONFIG_NETWORK))
		return fail(why, ENOMEM, "%s: no memory", s->path);
	return find_memory(s, o, dir, why);
}

static int open_restore(struct source *s, struct failure *why)
{
	struct snapshot *snapshot;
	AUTO_CLOSE int dir = -1;
	int r = snapshot_find(s->caller, s->path, &dir, &snapshot, why);

	if (r == 0 && dir >= 0)
		r = snapshot_open(&snapshot, s->caller, dir, s->path, why);
	return r < 0 ? r : make_origin(s, snapshot, dir >= 0 ? dir : snapshot->dir, why);
}

static int open_file(struct source *s, const char *path, struct failure *why)
{
	AUTO_CLOSE int fd = caller_open(s->caller, path, why);

	if (fd < 0)
		return fd;
	return caller_read(s->caller, fd, path, why);
}

static int fetch(struct source *s, const char *path, int *ret, struct failure *why)
{
	AUTO_CLOSE int fd = open_file(s, path, why);
	int r;

	if (fd < 0)
		return fd;
	r = copy_to_memfd(fd, path, KERNEL_MAX, why);
	if (r < 0)
		return r;
	*ret = r;
	return 0;
}

static int read_config(struct source *s, struct boot_config *ret, struct failure *why)
{
	AUTO_CLOSE int fd = open_file(s, s->path, why);
	AUTO_FREE char *json = NULL;
	size_t n;
	int r;

	if (fd < 0)
		return fd;
	r = read_file(fd, BOOT_CONFIG_JSON_MAX, &json, &n);
	if (r == -EFBIG)
		return fail(why, EINVAL, "%s: is larger than %u bytes: no VM description", s->path, BOOT_CONFIG_JSON_MAX);
	if (r < 0)
		return fail_errno(why, -r, "%s", s->path);
	r = boot_config_parse(ret, json, n, why);
	return r < 0 ? fail_within(why, "%s", s->path) : 0;
}

static int describe(struct source *s, const struct boot_config *boot, struct failure *why)
{
	const char *accel = config_get(&s->config, CONFIG_ACCEL);
	int r = find_driver(s, config_get(&s->config, CONFIG_VMM), why);

	if (r < 0)
		return r;
	if (!strcmp(accel, "kvm") && !s->facts.accel_kvm)
		return fail(why, EOPNOTSUPP, "config/accel says kvm, which can't run guests here (see doctor)");
	if (!strcmp(accel, "auto"))
		accel = s->facts.accel_kvm ? "kvm" : "tcg";
	s->recipe = (struct recipe){ .format = RECIPE_FORMAT, .vcpus = boot->vcpus, .ram_size = boot->ram_size };
	snprintf(s->recipe.driver, sizeof s->recipe.driver, "%s", s->driver->name);
	snprintf(s->recipe.driver_version, sizeof s->recipe.driver_version, "%s", s->facts.version);
	snprintf(s->recipe.machine, sizeof s->recipe.machine, "%s", config_get(&s->config, CONFIG_MACHINE));
	snprintf(s->recipe.accel, sizeof s->recipe.accel, "%s", accel);
	r = s->driver->describe(&s->recipe, &s->facts, why);
	s->region = REGION_SHARED;
	s->backend = "memfd-shared";
	return r < 0 ? r : s->driver->check(&s->recipe, s->region, &s->facts, why);
}

static int open_boot(struct source *s, struct failure *why)
{
	struct boot_config boot __attribute__((cleanup(boot_config_finish))) = { 0 };
	int r = read_config(s, &boot, why);

	if (r < 0)
		return r;
	r = describe(s, &boot, why);
	if (r < 0)
		return r;
	r = fetch(s, boot.kernel, &s->kernel, why);
	if (r == 0 && boot.initrd)
		r = fetch(s, boot.initrd, &s->initrd, why);
	if (r < 0)
		return fail_within(why, "%s", s->path);
	s->args = boot.args ? steal_ptr(&boot.args) : strdup(DEFAULT_ARGS);
	return s->args ? 0 : fail(why, ENOMEM, "%s: no memory", s->path);
}

int source_open(struct source *s, struct failure *why)
{
	return s->boot ? open_boot(s, why) : open_restore(s, why);
}
