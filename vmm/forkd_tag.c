/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/forkd_tag.h"

#include <stdio.h>
#include <string.h>

#include "vmm/json.h"

bool forkd_tag_is(const char *text, size_t n)
{
	AUTO_JSON cJSON *json = NULL;
	struct failure why;

	return json_parse(&json, text, n, &why) == 0 && !cJSON_HasObjectItem(json, "format") && cJSON_HasObjectItem(json, "vmstate") &&
	       cJSON_HasObjectItem(json, "memory");
}

const char *forkd_tag_name(const char *path)
{
	return strrchr(path, '/') + 1;
}

static int get_path(const struct json_object *o, const char *key, char *ret)
{
	const cJSON *value;
	const char *name;
	int r = json_get(o, key, true, &value);

	if (r == 0)
		r = json_copy_string(o, key, value, ret, PATH_MAX);
	if (r < 0)
		return r;
	if (*ret != '/')
		return fail(o->why, EINVAL, "%s: \"%s\" is not an absolute path", key, ret);
	name = forkd_tag_name(ret);
	if (!*name || !strcmp(name, ".") || !strcmp(name, "..") || strlen(name) > NAME_MAX)
		return fail(o->why, EINVAL, "%s: \"%s\" is no file's path", key, ret);
	return 0;
}

int forkd_tag_parse(struct forkd_tag *ret, const char *text, size_t n, struct failure *why)
{
	AUTO_JSON cJSON *json = NULL;
	struct json_object o;
	struct forkd_tag tag;
	int r = json_parse(&json, text, n, why);

	if (r < 0)
		return r;
	o = (struct json_object){ json, "", why };
	r = get_path(&o, "vmstate", tag.vmstate);
	if (r == 0)
		r = get_path(&o, "memory", tag.memory);
	if (r == 0)
		*ret = tag;
	return r;
}
