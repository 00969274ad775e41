/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boot_config.h"

#include <limits.h>
#include <string.h>

#include "vmm/json.h"

#define VCPUS_MAX 32
#define RAM_MIB_MAX (64ull << 20)
#define ARGS_MAX 2048 /* COMMAND_LINE_SIZE of x86, the NUL included */

/* What is read of one key. */
struct row {
	const char *key;
	int (*read)(struct boot_config *c, const struct json_object *o, const struct row *row, const cJSON *value);
	bool bare; /* an empty object asks for the thing, too */
};

static int unsupported(const struct json_object *o, const struct row *row)
{
	return fail(o->why, EOPNOTSUPP, "%s%s: forkfs can't do that yet", o->prefix, row->key);
}

/* Firecracker takes null for a key that is not there. */
static int read_nothing(struct boot_config *c, const struct json_object *o, const struct row *row, const cJSON *value)
{
	bool empty = (cJSON_IsArray(value) || (cJSON_IsObject(value) && !row->bare)) && !value->child;

	(void)c;
	return cJSON_IsNull(value) || empty ? 0 : unsupported(o, row);
}

static int read_none(struct boot_config *c, const struct json_object *o, const struct row *row, const cJSON *value)
{
	(void)c;
	if (cJSON_IsNull(value))
		return 0;
	if (!cJSON_IsString(value))
		return fail(o->why, EINVAL, "%s%s: is not a string", o->prefix, row->key);
	return strcmp(value->valuestring, "None") ? unsupported(o, row) : 0;
}

static int read_false(struct boot_config *c, const struct json_object *o, const struct row *row, const cJSON *value)
{
	(void)c;
	if (!cJSON_IsBool(value))
		return fail(o->why, EINVAL, "%s%s: is not true or false", o->prefix, row->key);
	return cJSON_IsTrue(value) ? unsupported(o, row) : 0;
}

/* Either way: forkfs finds what changed without it. */
static int read_bool(struct boot_config *c, const struct json_object *o, const struct row *row, const cJSON *value)
{
	(void)c;
	return cJSON_IsBool(value) ? 0 : fail(o->why, EINVAL, "%s%s: is not true or false", o->prefix, row->key);
}

static int read_string(const struct json_object *o, const struct row *row, const cJSON *value, size_t max, char **ret)
{
	char s[PATH_MAX];
	int r = json_copy_string(o, row->key, value, s, max);

	if (r < 0)
		return r;
	*ret = strdup(s);
	return *ret ? 0 : fail(o->why, ENOMEM, "%s%s: no memory", o->prefix, row->key);
}

static int read_path(const struct json_object *o, const struct row *row, const cJSON *value, char **ret)
{
	AUTO_FREE char *path = NULL;
	int r = read_string(o, row, value, PATH_MAX, &path);

	if (r < 0)
		return r;
	if (*path != '/')
		return fail(o->why, EINVAL, "%s%s: \"%s\" is not an absolute path", o->prefix, row->key, path);
	*ret = steal_ptr(&path);
	return 0;
}

static int read_kernel(struct boot_config *c, const struct json_object *o, const struct row *row, const cJSON *value)
{
	return read_path(o, row, value, &c->kernel);
}

static int read_initrd(struct boot_config *c, const struct json_object *o, const struct row *row, const cJSON *value)
{
	return cJSON_IsNull(value) ? 0 : read_path(o, row, value, &c->initrd);
}

static int read_args(struct boot_config *c, const struct json_object *o, const struct row *row, const cJSON *value)
{
	int r = cJSON_IsNull(value) ? 0 : read_string(o, row, value, ARGS_MAX, &c->args);

	for (const char *s = r == 0 && c->args ? c->args : ""; *s; s++)
		if ((unsigned char)*s > '~')
			return fail(o->why, EINVAL, "%s%s: has a character that is not ASCII", o->prefix, row->key);
	return r;
}

static int read_vcpus(struct boot_config *c, const struct json_object *o, const struct row *row, const cJSON *value)
{
	uint64_t n;
	int r = json_get_integer(o, row->key, 1, VCPUS_MAX, &n);

	(void)value;
	if (r == 0)
		c->vcpus = (unsigned int)n;
	return r;
}

static int read_ram(struct boot_config *c, const struct json_object *o, const struct row *row, const cJSON *value)
{
	uint64_t n;
	int r = json_get_integer(o, row->key, 1, RAM_MIB_MAX, &n);

	(void)value;
	if (r == 0)
		c->ram_size = n << 20;
	return r;
}

static const struct row boot_source_rows[] = {
	{ "kernel_image_path", read_kernel },
	{ "initrd_path", read_initrd },
	{ "boot_args", read_args },
	{ NULL },
};

static const struct row machine_rows[] = {
	{ "vcpu_count", read_vcpus },
	{ "mem_size_mib", read_ram },
	{ "smt", read_false },
	{ "track_dirty_pages", read_bool },
	{ "cpu_template", read_none },
	{ "huge_pages", read_none },
	{ "gdb_socket_path", read_nothing },
	{ NULL },
};

/* Reads an object whose keys all have a row; a key that is there twice is refused. */
static int read_object(struct boot_config *c, const struct json_object *o, const struct row *rows)
{
	const cJSON *item, *value;

	cJSON_ArrayForEach(item, o->json) {
		const struct row *row = rows;
		int r;

		while (row->key && strcmp(row->key, item->string))
			row++;
		if (!row->key)
			return fail(o->why, EINVAL, "%s%.64s: is unknown", o->prefix, item->string);
		r = json_get(o, row->key, true, &value);
		if (r == 0)
			r = row->read(c, o, row, value);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_boot_source(struct boot_config *c, const struct json_object *o, const struct row *row, const cJSON *value)
{
	struct json_object source;
	int r = json_get_object(o, row->key, "boot-source.", &source);

	(void)value;
	return r < 0 ? r : read_object(c, &source, boot_source_rows);
}

static int read_machine(struct boot_config *c, const struct json_object *o, const struct row *row, const cJSON *value)
{
	struct json_object machine;
	int r = cJSON_IsNull(value) ? 0 : json_get_object(o, row->key, "machine-config.", &machine);

	return r < 0 || cJSON_IsNull(value) ? r : read_object(c, &machine, machine_rows);
}

static const struct row top_rows[] = {
	{ "boot-source", read_boot_source },
	{ "machine-config", read_machine },
	{ "balloon", read_nothing },
	{ "cpu-config", read_nothing },
	{ "drives", read_nothing },
	{ "entropy", read_nothing, .bare = true },
	{ "logger", read_nothing },
	{ "memory-hotplug", read_nothing },
	{ "metrics", read_nothing },
	{ "mmds-config", read_nothing },
	{ "network-interfaces", read_nothing },
	{ "pmem", read_nothing },
	{ "serial", read_nothing },
	{ "vsock", read_nothing },
	{ NULL },
};

int boot_config_parse(struct boot_config *ret, const char *text, size_t n, struct failure *why)
{
	struct boot_config c __attribute__((cleanup(boot_config_finish))) = { .vcpus = 1, .ram_size = 128ull << 20 };
	AUTO_JSON cJSON *json = NULL;
	int r;

	if (n > BOOT_CONFIG_JSON_MAX)
		return fail(why, EINVAL, "is larger than %u bytes", BOOT_CONFIG_JSON_MAX);
	r = json_parse(&json, text, n, why);
	if (r < 0)
		return r;
	r = read_object(&c, &(struct json_object){ json, "", why }, top_rows);
	if (r < 0)
		return r;
	if (!c.kernel)
		return fail(why, EINVAL, "boot-source.kernel_image_path: is missing");
	*ret = c;
	c = (struct boot_config){ 0 };
	return 0;
}

void boot_config_finish(struct boot_config *c)
{
	free(c->kernel);
	free(c->initrd);
	free(c->args);
	*c = (struct boot_config){ 0 };
}
