/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/settings.h"

#include <fcntl.h>
#include <string.h>

#include "vmm/base/io.h"
#include "vmm/json.h"

#define SETTINGS_MAX (1u << 20) /* bytes */

static bool add(cJSON *json, const char *name, const struct config *c)
{
	cJSON *object = cJSON_AddObjectToObject(json, name);

	for (int i = 0; object && i < CONFIG_COUNT; i++)
		if (c->value[i] && !cJSON_AddStringToObject(object, config_keys[i].name, c->value[i]))
			return false;
	return object;
}

int settings_write(int state, const struct config *started, const struct config *now)
{
	AUTO_JSON cJSON *json = cJSON_CreateObject();
	AUTO_FREE char *text = json && add(json, "started", started) && add(json, "now", now) ? cJSON_PrintUnformatted(json) : NULL;

	return text ? write_anew(state, SETTINGS_FILE, text) : -ENOMEM;
}

static const char *value_of(const cJSON *json, const char *name, const char *key)
{
	return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(json, name), key));
}

static bool same(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

/* A value that this version or host doesn't take any more is as if it hadn't been written. */
static void take(const cJSON *json, const struct config *started, struct config *now)
{
	for (int i = 0; i < CONFIG_COUNT; i++) {
		const char *value = value_of(json, "now", config_keys[i].name);

		if (value && same(value_of(json, "started", config_keys[i].name), started->value[i]))
			config_set(now, (enum config_id)i, value, NULL);
	}
}

int settings_read(int state, const struct config *started, struct config *now, struct failure *why)
{
	AUTO_CLOSE int fd = openat(state, SETTINGS_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	AUTO_FREE char *text = NULL;
	AUTO_JSON cJSON *json = NULL;
	size_t n;
	int r;

	if (fd < 0)
		return fail_errno(why, errno, SETTINGS_FILE);
	r = read_file(fd, SETTINGS_MAX, &text, &n);
	if (r < 0)
		return fail_errno(why, -r, SETTINGS_FILE);
	r = json_parse(&json, text, n, why);
	if (r < 0)
		return fail_within(why, SETTINGS_FILE);
	take(json, started, now);
	return 0;
}
