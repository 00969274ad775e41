/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qmp_message.h"

#include <stdio.h>
#include <string.h>

/* cJSON recurses once a level. Brackets inside of strings don't count. */
static int check_shape(const char *line, size_t n, struct failure *why)
{
	unsigned int depth = 0;
	bool quoted = false;

	if (n > QMP_LINE_MAX)
		return fail(why, EMSGSIZE, "QMP line longer than %u bytes", QMP_LINE_MAX);
	for (size_t i = 0; i < n; i++) {
		char c = line[i];

		if (c == '\0')
			return fail(why, EINVAL, "QMP line with a NUL");
		if (quoted && c == '\\' && i + 1 < n && line[i + 1])
			i++;
		else if (c == '"')
			quoted = !quoted;
		else if (!quoted && (c == '[' || c == '{') && ++depth > QMP_NESTING_MAX)
			return fail(why, EMSGSIZE, "QMP line nested deeper than %d", QMP_NESTING_MAX);
		else if (!quoted && (c == ']' || c == '}') && depth)
			depth--;
	}
	return 0;
}

/* A copy with a NUL behind it: cJSON before 1.7.18 looks one byte past what it was told. Returns NULL and sets *error. */
static cJSON *parse_json(const char *line, size_t n, int *error)
{
	AUTO_FREE char *copy = malloc(n + 1);
	const char *end = NULL;
	cJSON *json;

	*error = ENOMEM;
	if (!copy)
		return NULL;
	if (n)
		memcpy(copy, line, n);
	copy[n] = '\0';
	*error = EINVAL;
	json = cJSON_ParseWithLengthOpts(copy, n + 1, &end, 0);
	if (!json)
		return NULL;
	end += strspn(end, " \t\r\n");
	if (*end || !cJSON_IsObject(json)) {
		cJSON_Delete(json);
		return NULL;
	}
	return json;
}

static void copy_string(char *to, size_t n, const cJSON *item)
{
	const char *s = cJSON_GetStringValue(item);

	snprintf(to, n, "%s", s ?: "");
}

static bool read_error(struct qmp_message *m, const cJSON *error)
{
	const cJSON *desc = cJSON_GetObjectItemCaseSensitive(error, "desc");

	m->kind = QMP_ERROR;
	copy_string(m->text, sizeof m->text, desc);
	return cJSON_IsString(desc);
}

static bool read_event(struct qmp_message *m, const cJSON *event)
{
	m->kind = QMP_EVENT;
	copy_string(m->name, sizeof m->name, event);
	m->content = cJSON_GetObjectItemCaseSensitive(m->json, "data");
	return cJSON_IsString(event) && (!m->content || cJSON_IsObject(m->content));
}

static bool read_kind(struct qmp_message *m)
{
	const cJSON *item;

	if ((item = cJSON_GetObjectItemCaseSensitive(m->json, "event")))
		return read_event(m, item);
	if ((item = cJSON_GetObjectItemCaseSensitive(m->json, "error")))
		return read_error(m, item);
	if ((item = cJSON_GetObjectItemCaseSensitive(m->json, "return"))) {
		m->kind = QMP_RETURN;
		m->content = item;
		return true;
	}
	m->kind = QMP_GREETING;
	return cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(m->json, "QMP"));
}

int qmp_message_parse(struct qmp_message *ret, const char *line, size_t n, struct failure *why)
{
	struct qmp_message m = { 0 };
	int r, error;

	r = check_shape(line, n, why);
	if (r < 0)
		return r;
	m.json = parse_json(line, n, &error);
	if (!m.json)
		return fail(why, error, "QMP line that is no JSON object: %.*s", (int)(n < 80 ? n : 80), line);
	m.has_id = cJSON_HasObjectItem(m.json, "id");
	if (cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(m.json, "id")))
		m.id = cJSON_GetObjectItemCaseSensitive(m.json, "id")->valuedouble;
	if (!read_kind(&m)) {
		qmp_message_finish(&m);
		return fail(why, EINVAL, "QMP line of no known kind: %.*s", (int)(n < 80 ? n : 80), line);
	}
	*ret = m;
	return 0;
}

void qmp_message_finish(struct qmp_message *m)
{
	cJSON_Delete(m->json);
	*m = (struct qmp_message){ 0 };
}
