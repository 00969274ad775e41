/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/recipe.h"

#include <ctype.h>
#include <endian.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "vmm/json.h"
#include "vmm/memory/extents.h"

#define RAM_MAX (64ull << 40)
#define VCPUS_MAX 1024

/* Says whether a string may stand for what its key means. */
typedef bool (*check_fn)(const char *);

/* Words go into a VMM's command line, where a comma would begin another option. */
static bool is_word(const char *s)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+=-";

	return *s && *s != '-' && !s[strspn(s, allowed)];
}

static bool is_line(const char *s)
{
	for (const char *c = s; *c; c++)
		if ((unsigned char)*c > '~')
			return false;
	return *s;
}

static bool is_file(const char *s)
{
	return *s && !strchr(s, '/') && strcmp(s, ".") && strcmp(s, "..");
}

/* Whether s looks like the pattern, in which 'x' is a hexadecimal digit, '9' a decimal one and the rest itself. */
static bool looks_like(const char *s, const char *pattern)
{
	for (; *pattern; s++, pattern++) {
		bool same = *pattern == 'x' ? isxdigit((unsigned char)*s) : *pattern == '9' ? isdigit((unsigned char)*s) : *s == *pattern;

		if (!same)
			return false;
	}
	return !*s;
}

static bool is_uuid(const char *s)
{
	return looks_like(s, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
}

static bool is_crc64(const char *s)
{
	return looks_like(s, "xxxxxxxxxxxxxxxx");
}

static bool is_time(const char *s)
{
	return looks_like(s, "9999-99-99T99:99:99Z");
}

static int check_string(const struct json_object *o, const char *key, const cJSON *value, char *ret, size_t size, check_fn check)
{
	int r = json_copy_string(o, key, value, ret, size);

	if (r == 0 && !check(ret))
		return fail(o->why, EINVAL, "%s%s: \"%s\" can't be one", o->prefix, key, ret);
	return r;
}

static int get_string(const struct json_object *o, const char *key, char *ret, size_t size, check_fn check)
{
	const cJSON *value;
	int r = json_get(o, key, true, &value);

	return r < 0 ? r : check_string(o, key, value, ret, size, check);
}

/* Absent is "". */
static int get_optional(const struct json_object *o, const char *key, char *ret, size_t size, check_fn check)
{
	const cJSON *value;
	int r = json_get(o, key, false, &value);

	ret[0] = '\0';
	return r < 0 || !value ? r : check_string(o, key, value, ret, size, check);
}

#define GET(o, key, field, check) get_string(o, key, field, sizeof(field), check)
#define GET_OPTIONAL(o, key, field, check) get_optional(o, key, field, sizeof(field), check)

/* Comes first: a newer format may call everything else by other names. */
static int get_format(const struct json_object *o, struct recipe *r)
{
	uint64_t format;
	int e = json_get_integer(o, "format", 1, JSON_INTEGER_MAX, &format);

	if (e < 0)
		return e;
	if (format > RECIPE_FORMAT)
		return fail(o->why, EOPNOTSUPP, "format: %llu is newer than this forkfs, which reads up to %d", (unsigned long long)format,
			    RECIPE_FORMAT);
	r->format = (int)format;
	return 0;
}

static int get_machine(const struct json_object *o, struct recipe *r)
{
	struct json_object driver;
	uint64_t vcpus;
	int e = json_get_object(o, "driver", "driver.", &driver);

	if (e < 0)
		return e;
	if ((e = GET(&driver, "name", r->driver, is_word)) < 0 || (e = GET(&driver, "version", r->driver_version, is_line)) < 0)
		return e;
	if ((e = GET(o, "machine", r->machine, is_word)) < 0 || (e = GET(o, "cpu", r->cpu, is_word)) < 0)
		return e;
	if ((e = GET_OPTIONAL(o, "accel", r->accel, is_word)) < 0 || (e = json_get_integer(o, "vcpus", 1, VCPUS_MAX, &vcpus)) < 0)
		return e;
	r->vcpus = (unsigned int)vcpus;
	e = json_get_integer(o, "ram_size", PAGE_BYTES, RAM_MAX, &r->ram_size);
	if (e < 0)
		return e;
	if (r->ram_size % PAGE_BYTES)
		return fail(o->why, EINVAL, "ram_size: is no multiple of %u", PAGE_BYTES);
	return 0;
}

static int get_device(const struct json_object *o, struct recipe_device *d)
{
	int e = GET(o, "type", d->type, is_word);

	if (e < 0)
		return e;
	if (strcmp(d->type, "serial") && strcmp(d->type, "vmgenid"))
		return fail(o->why, EOPNOTSUPP, "%stype: a device \"%s\" is unknown to this forkfs", o->prefix, d->type);
	return GET(o, "id", d->id, is_word);
}

static int get_devices(const struct json_object *o, struct recipe *r)
{
	const cJSON *list, *item;
	int e = json_get(o, "devices", true, &list);

	if (e < 0)
		return e;
	if (!cJSON_IsArray(list))
		return fail(o->why, EINVAL, "devices: is not an array");
	cJSON_ArrayForEach(item, list) {
		struct json_object device = { item, "devices.", o->why };

		if (r->device_count == RECIPE_DEVICES_MAX)
			return fail(o->why, EINVAL, "devices: are more than %d", RECIPE_DEVICES_MAX);
		if (!cJSON_IsObject(item))
			return fail(o->why, EINVAL, "devices: has something that is not an object");
		e = get_device(&device, &r->devices[r->device_count++]);
		if (e < 0)
			return e;
	}
	return 0;
}

static int get_memory(const struct json_object *o, struct recipe *r)
{
	struct json_object memory;
	int e = json_get_object(o, "memory", "memory.", &memory);

	if (e < 0)
		return e;
	if ((e = GET(&memory, "file", r->memory.file, is_file)) < 0 || (e = GET_OPTIONAL(&memory, "identity", r->memory.identity, is_uuid)) < 0)
		return e;
	return json_get_integer(&memory, "size", r->ram_size, JSON_INTEGER_MAX, &r->memory.size);
}

static int get_vmstate(const struct json_object *o, struct recipe *r)
{
	struct json_object vmstate;
	char crc64[17];
	int e = json_get_object(o, "vmstate", "vmstate.", &vmstate);

	if (e < 0)
		return e;
	if ((e = GET(&vmstate, "file", r->vmstate.file, is_file)) < 0 || (e = GET_OPTIONAL(&vmstate, "crc64", crc64, is_crc64)) < 0)
		return e;
	r->vmstate.has_crc64 = *crc64;
	r->vmstate.crc64 = *crc64 ? strtoull(crc64, NULL, 16) : 0;
	return json_get_integer(&vmstate, "size", 0, JSON_INTEGER_MAX, &r->vmstate.size);
}

int recipe_parse(struct recipe *ret, const char *text, size_t n, struct failure *why)
{
	AUTO_JSON cJSON *json = NULL;
	struct recipe r = { 0 };
	struct json_object o;
	int e;

	if (n > RECIPE_JSON_MAX)
		return fail(why, EINVAL, "is larger than %u bytes", RECIPE_JSON_MAX);
	e = json_parse(&json, text, n, why);
	if (e < 0)
		return e;
	o = (struct json_object){ json, "", why };
	if ((e = get_format(&o, &r)) < 0 || (e = get_machine(&o, &r)) < 0 || (e = get_devices(&o, &r)) < 0)
		return e;
	if ((e = get_memory(&o, &r)) < 0 || (e = get_vmstate(&o, &r)) < 0)
		return e;
	e = GET_OPTIONAL(&o, "created", r.created, is_time);
	if (e == 0)
		*ret = r;
	return e;
}

static bool put_string(cJSON *o, const char *key, const char *value)
{
	return !*value || cJSON_AddStringToObject(o, key, value);
}

/* cJSON rounds to 15 digits what it prints as a number. */
static bool put_integer(cJSON *o, const char *key, uint64_t value)
{
	char digits[24];

	snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
	return cJSON_AddRawToObject(o, key, digits);
}

static bool put_devices(cJSON *o, const struct recipe *r)
{
	cJSON *list = cJSON_AddArrayToObject(o, "devices");

	for (size_t i = 0; list && i < r->device_count; i++) {
		cJSON *device = cJSON_CreateObject();

		if (!cJSON_AddItemToArray(list, device)) /* refuses NULL */
			return false;
		if (!put_string(device, "type", r->devices[i].type) || !put_string(device, "id", r->devices[i].id))
			return false;
	}
	return list;
}

static bool put_member(cJSON *o, const char *key, const struct recipe_member *m)
{
	cJSON *member = cJSON_AddObjectToObject(o, key);
	char crc64[17] = "";

	if (m->has_crc64)
		snprintf(crc64, sizeof crc64, "%016llx", (unsigned long long)m->crc64);
	return member && put_string(member, "file", m->file) && put_integer(member, "size", m->size) &&
	       put_string(member, "identity", m->identity) && put_string(member, "crc64", crc64);
}

static bool put_recipe(cJSON *o, const struct recipe *r)
{
	cJSON *driver;

	if (!o || !put_integer(o, "format", (uint64_t)r->format) || !(driver = cJSON_AddObjectToObject(o, "driver")))
		return false;
	return put_string(driver, "name", r->driver) && put_string(driver, "version", r->driver_version) &&
	       put_string(o, "machine", r->machine) && put_string(o, "cpu", r->cpu) && put_string(o, "accel", r->accel) &&
	       put_integer(o, "vcpus", r->vcpus) && put_integer(o, "ram_size", r->ram_size) && put_devices(o, r) &&
	       put_member(o, "memory", &r->memory) && put_member(o, "vmstate", &r->vmstate) && put_string(o, "created", r->created);
}

void recipe_print(const struct recipe *r, struct text *t)
{
	AUTO_JSON cJSON *o = cJSON_CreateObject();
	char *json = put_recipe(o, r) ? cJSON_Print(o) : NULL;

	if (!json) {
		t->failed = true;
		return;
	}
	text_printf(t, "%s\n", json);
	cJSON_free(json);
}

/* What eight bytes make of it at once: tables[i] is of a byte that i more follow. A state is looked at before each restore. */
static uint64_t tables[8][256];

static void make_tables(void)
{
	for (unsigned int byte = 0; byte < 256; byte++) {
		uint64_t crc = byte;

		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (-(crc & 1) & 0x95AC9329AC4BC9B5u);
		tables[0][byte] = crc;
	}
	for (int i = 1; i < 8; i++)
		for (unsigned int byte = 0; byte < 256; byte++)
			tables[i][byte] = tables[i - 1][byte] >> 8 ^ tables[0][tables[i - 1][byte] & 255];
}

uint64_t crc64_jones(uint64_t crc, const void *data, size_t n)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	const unsigned char *p = data;

	pthread_once(&once, make_tables);
	for (; n >= 8; p += 8, n -= 8) {
		uint64_t eight, sum = 0;

		memcpy(&eight, p, 8);
		crc ^= le64toh(eight);
		for (int i = 0; i < 8; i++)
			sum ^= tables[7 - i][crc >> 8 * i & 255];
		crc = sum;
	}
	for (; n; p++, n--)
		crc = crc >> 8 ^ tables[0][(crc ^ *p) & 255];
	return crc;
}
