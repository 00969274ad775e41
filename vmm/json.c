/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/json.h"

#include <ctype.h>
#include <string.h>

/* cJSON ends a string at the NUL that \u0000 is, and would show a part for the whole. */
static bool has_nul(const char *text, size_t n)
{
	static const char escaped[] = "u0000";

	for (size_t i = 0; i < n; i++) {
		if (!text[i])
			return true;
		if (text[i] != '\\')
			continue;
		i++;
		if (n - i >= sizeof escaped - 1 && !memcmp(text + i, escaped, sizeof escaped - 1))
			return true;
	}
	return false;
}

static bool only_space(const char *from, const char *end)
{
	while (from < end && (*from == ' ' || *from == '\t' || *from == '\n' || *from == '\r'))
		from++;
	return from == end;
}

int json_parse(cJSON **ret, const char *text, size_t n, struct failure *why)
{
	AUTO_JSON cJSON *json = NULL;
	const char *end = text;

	if (has_nul(text, n))
		return fail(why, EINVAL, "a NUL has no place in JSON");
	json = n ? cJSON_ParseWithLengthOpts(text, n, &end, false) : NULL;
	if (!json)
		return fail(why, EINVAL, "not JSON: it can't be read on at byte %zu", (size_t)(end - text));
	if (!only_space(end, text + n))
		return fail(why, EINVAL, "something follows the JSON at byte %zu", (size_t)(end - text));
	if (!cJSON_IsObject(json))
		return fail(why, EINVAL, "not a JSON object");
	*ret = steal_ptr(&json);
	return 0;
}

void json_free(cJSON **json)
{
	cJSON_Delete(*json);
	*json = NULL;
}

int json_get(const struct json_object *o, const char *key, bool required, const cJSON **ret)
{
	const cJSON *found = NULL, *item;

	cJSON_ArrayForEach(item, o->json) {
		if (strcmp(item->string, key))
			continue;
		if (found)
			return fail(o->why, EINVAL, "%s%s: is there twice", o->prefix, key);
		found = item;
	}
	if (!found && required)
		return fail(o->why, EINVAL, "%s%s: is missing", o->prefix, key);
	*ret = found;
	return 0;
}

int json_get_object(const struct json_object *o, const char *key, const char *prefix, struct json_object *ret)
{
	const cJSON *value;
	int r = json_get(o, key, true, &value);

	if (r < 0)
		return r;
	if (!cJSON_IsObject(value))
		return fail(o->why, EINVAL, "%s%s: is not an object", o->prefix, key);
	*ret = (struct json_object){ value, prefix, o->why };
	return 0;
}

int json_get_integer(const struct json_object *o, const char *key, uint64_t min, uint64_t max, uint64_t *ret)
{
	const cJSON *value;
	double number;
	int r = json_get(o, key, true, &value);

	if (r < 0)
		return r;
	number = cJSON_IsNumber(value) ? value->valuedouble : -1;
	if (!(number >= 0 && number <= (double)JSON_INTEGER_MAX) || number != (double)(uint64_t)number)
		return fail(o->why, EINVAL, "%s%s: is not a whole number", o->prefix, key);
	if ((uint64_t)number < min || (uint64_t)number > max)
		return fail(o->why, EINVAL, "%s%s: %llu is not within %llu and %llu", o->prefix, key, (unsigned long long)number,
			    (unsigned long long)min, (unsigned long long)max);
	*ret = (uint64_t)number;
	return 0;
}

int json_copy_string(const struct json_object *o, const char *key, const cJSON *value, char *ret, size_t size)
{
	size_t n;

	if (!cJSON_IsString(value))
		return fail(o->why, EINVAL, "%s%s: is not a string", o->prefix, key);
	n = strlen(value->valuestring);
	if (n >= size)
		return fail(o->why, EINVAL, "%s%s: is longer than %zu bytes", o->prefix, key, size - 1);
	for (size_t i = 0; i < n; i++)
		if (iscntrl((unsigned char)value->valuestring[i]))
			return fail(o->why, EINVAL, "%s%s: has a control character", o->prefix, key);
	memcpy(ret, value->valuestring, n + 1);
	return 0;
}
