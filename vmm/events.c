/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/events.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "vmm/base/log.h"

void events_init(struct events *e)
{
	*e = (struct events){ .file = EVENTS_FILE_NONE };
	list_init(&e->grown);
}

static void drop_front(struct events *e, size_t n)
{
	if (!n)
		return;
	for (size_t i = 0; i < n; i++)
		free(e->ring[i].line);
	memmove(e->ring, e->ring + n, (e->count - n) * sizeof *e->ring);
	e->count -= n;
}

void events_finish(struct events *e)
{
	events_file_close(&e->file);
	drop_front(e, e->count);
	free(e->ring);
	e->ring = NULL;
	e->size = 0;
}

static void add_time(cJSON *json)
{
	struct timespec now;
	char text[64];
	struct tm tm;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, sizeof text - n, ".%06ldZ", now.tv_nsec / 1000);
	cJSON_AddStringToObject(json, "time", text);
}

static void add_string(cJSON *json, const char *key, const char *value)
{
	if (value && *value)
		cJSON_AddStringToObject(json, key, value);
}

static void add_ms(cJSON *json, const char *name, double ms)
{
	cJSON_AddNumberToObject(json, name, round(ms * 1000) / 1000);
}

static void add_steps(cJSON *json, const struct event_step *steps)
{
	cJSON *object = steps ? cJSON_AddObjectToObject(json, "steps_ms") : NULL;

	for (; object && steps->name; steps++)
		add_ms(object, steps->name, steps->ms);
}

static char *print(const struct event_facts *facts)
{
	cJSON *json = cJSON_CreateObject();
	char *line;

	if (!json)
		return NULL;
	add_time(json);
	add_string(json, "fork", facts->fork);
	add_string(json, "event", facts->what);
	add_string(json, "snapshot", facts->snapshot);
	add_string(json, "from", facts->from);
	add_string(json, "errno", facts->code ? strerrorname_np(facts->code) : NULL);
	add_string(json, "error", facts->error);
	if (facts->has_ms)
		add_ms(json, "ms", facts->ms);
	if (facts->stop_ms > 0)
		add_ms(json, "stop_ms", facts->stop_ms);
	add_steps(json, facts->steps);
	line = cJSON_PrintUnformatted(json);
	cJSON_Delete(json);
	return line;
}

static int make_room(struct events *e, uint64_t max)
{
	size_t size = e->size ? e->size * 2 : 64;
	struct event *ring;

	if (e->count >= max)
		drop_front(e, e->count - max / 2);
	if (e->count < e->size)
		return 0;
	ring = reallocarray(e->ring, size, sizeof *ring);
	if (!ring)
		return -ENOMEM;
	e->ring = ring;
	e->size = size;
	return 0;
}

static int append(struct events *e, uint64_t max, uid_t uid, char *line, size_t n)
{
	if (make_room(e, max) < 0)
		return -ENOMEM;
	e->ring[e->count++] = (struct event){ .number = e->next++, .uid = uid, .len = n, .line = line };
	return 0;
}

void events_add(struct events *e, uint64_t max, uid_t uid, const struct event_facts *facts)
{
	AUTO_FREE char *json = print(facts);
	char *line = NULL;
	int n = json ? asprintf(&line, "%s\n", json) : -1;

	if (n < 0 || append(e, max, uid, line, (size_t)n) < 0) {
		log_warn("no memory for an event: %s %s", facts->fork ?: "", facts->what);
		if (n >= 0)
			free(line);
		return;
	}
	events_file_add(&e->file, max, uid, line);
	signal_emit(&e->grown);
}

struct restore {
	struct events *events;
	uint64_t max;
};

static void on_found(uid_t uid, const char *line, size_t n, void *data)
{
	struct restore *r = data;
	char *copy = strndup(line, n);

	if (!copy || append(r->events, r->max, uid, copy, n) < 0)
		free(copy);
}

int events_keep(struct events *e, int state, uint64_t max)
{
	struct restore r = { e, max };

	return events_file_open(&e->file, state, on_found, &r);
}

static bool sees(uid_t reader, const struct event *event)
{
	return reader == EVENTS_ALL || reader == event->uid;
}

uint64_t events_size(const struct events *e, uid_t reader)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < e->count; i++)
		if (sees(reader, &e->ring[i]))
			sum += e->ring[i].len;
	return sum;
}

static size_t take(const struct event *event, size_t from, char *buf, size_t n)
{
	size_t k = event->len - from < n ? event->len - from : n;

	memcpy(buf, event->line + from, k);
	return k;
}

size_t events_read(const struct events *e, uid_t reader, char *buf, size_t n, uint64_t offset)
{
	size_t got = 0;

	for (size_t i = 0; i < e->count && got < n; i++) {
		if (!sees(reader, &e->ring[i]))
			continue;
		if (offset >= e->ring[i].len) {
			offset -= e->ring[i].len;
			continue;
		}
		got += take(&e->ring[i], (size_t)offset, buf + got, n - got);
		offset = 0;
	}
	return got;
}

size_t events_follow(const struct events *e, uid_t reader, struct events_cursor *at, char *buf, size_t n)
{
	uint64_t first = e->next - e->count;
	size_t got = 0;

	if (at->number < first)
		*at = (struct events_cursor){ .number = first };
	while (at->number < e->next && got < n) {
		const struct event *event = &e->ring[at->number - first];
		size_t k = sees(reader, event) ? take(event, at->within, buf + got, n - got) : 0;

		got += k;
		at->within += k;
		if (sees(reader, event) && at->within < event->len)
			break;
		*at = (struct events_cursor){ .number = at->number + 1 };
	}
	return got;
}
