/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/fork_record.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "vmm/capture.h"
#include "vmm/fork_private.h"
#include "vmm/json.h"
#include "vmm/snapshot.h"
#include "vmm/template.h"

/* --- of a fork -------------------------------------------------------------------------------------------------------------------- */

static void copy(char *to, size_t n, const char *from)
{
	snprintf(to, n, "%s", from ?: "");
}

/* What has no file any more (its snapshot failed) can't be found again either. */
static void take_origin(struct origin_record *r, const struct fork *f)
{
	const struct origin *o = f->origin;

	r->present = o;
	if (!o)
		return;
	r->lazy = f->paging && paging_is_lazy(f->paging);
	r->captured = o->snapshot->dir >= 0 || o->captured;
	r->delta = o->snapshot->delta;
	r->fill = o->fill;
	if (f->vm->kept[0] >= 0)
		file_id_get(&r->pages, f->vm->kept[0]);
	if (f->vm->kept[1] >= 0)
		file_id_get(&r->base, f->vm->kept[1]);
}

/* That of a guest that was booted names no files yet. */
static void name_members(struct recipe *r)
{
	if (*r->memory.file)
		return;
	r->memory = (struct recipe_member){ .file = "memory.bin", .size = r->ram_size };
	r->vmstate = (struct recipe_member){ .file = "vmstate", .size = 1 };
}

static void take_vm(struct vm_record *r, const struct fork *f)
{
	const struct vm *vm = f->vm;

	r->pid = vm->process.pid;
	r->start_time = vm->process.start_time;
	copy(r->driver, sizeof r->driver, f->driver->name);
	r->program = f->program;
	r->uid = f->vm_uid;
	copy(r->group, sizeof r->group, f->group);
	r->from_boot = f->from_boot;
	copy(r->backend, sizeof r->backend, f->backend);
	copy(r->ram_name, sizeof r->ram_name, f->ram_name);
	copy(r->generation, sizeof r->generation, vm->generation);
	copy(r->vsock, sizeof r->vsock, vm->vsock);
	r->recipe = f->recipe;
	name_members(&r->recipe);
	r->private = f->ram.kind == REGION_FILE;
	file_id_get(&r->ram, f->ram.fd);
	r->at = vm->memory.at;
	r->noted = vm->memory.noted;
	r->has_disk = vm->has_disk;
	r->saved = f->saved;
	take_origin(&r->origin, f);
}

static void take_shot(struct shot_record *r, const struct shot *s)
{
	const struct snapshot *snapshot = s->snapshot;

	r->serial = s->serial;
	copy(r->name, sizeof r->name, s->name);
	copy(r->path, sizeof r->path, s->path);
	r->made = s->made.tv_sec;
	r->described = snapshot && s->state != SHOT_FAILED;
	r->complete = s->state == SHOT_COMPLETE;
	r->delta = snapshot && snapshot->delta;
	if (r->delta)
		file_id_get(&r->base, template_fd(snapshot->template));
}

/* A snapshot that was dropped and is still being captured, for its children. */
static const struct shot *awaited(const struct fork *f)
{
	const struct capture *c = f->capture;

	return c && c->shot && !c->shot->fork && !c->ending ? c->shot : NULL;
}

static int take_shots(struct fork_record *r, const struct fork *f)
{
	const struct shot *s, *dropped = awaited(f);
	size_t n = dropped != NULL;

	list_for_each(s, &f->shots, link)
		n++;
	r->shots = n ? calloc(n, sizeof *r->shots) : NULL;
	if (n && !r->shots)
		return -ENOMEM;
	list_for_each(s, &f->shots, link)
		take_shot(&r->shots[r->shot_count++], s);
	if (dropped) {
		take_shot(&r->shots[r->shot_count], dropped);
		r->shots[r->shot_count++].dropped = true;
	}
	return 0;
}

int fork_record_take(struct fork_record *r, const struct fork *f)
{
	bool vm = f->known == FORK_KNOWN && f->vm && f->vm->process.pid && f->ram.kind != REGION_NONE;

	*r = (struct fork_record){ .uid = f->uid, .gid = f->gid, .mode = f->mode, .restore_ms = f->restore_ms, .started = f->started.tv_sec, .has_vm = vm };
	copy(r->id, sizeof r->id, f->id);
	r->launch = f->launch;
	copy(r->error, sizeof r->error, f->error);
	copy(r->exit, sizeof r->exit, f->exit);
	copy(r->snapshot, sizeof r->snapshot, f->snapshot);
	r->state = f->state == FORK_RESTORING || f->known != FORK_KNOWN ? FORK_EMPTY : f->state;
	if (vm)
		take_vm(&r->vm, f);
	if (config_copy(&r->config, &f->config, CONFIG_FORK_COUNT) < 0)
		return -ENOMEM;
	return take_shots(r, f);
}

/* --- printing ------------------------------------------------------------------------------------------------------------------------ */

static void add_text(cJSON *json, const char *key, const char *value)
{
	if (*value)
		cJSON_AddStringToObject(json, key, value);
}

static void add_number(cJSON *json, const char *key, double value)
{
	if (value != 0)
		cJSON_AddNumberToObject(json, key, value);
}

static void add_file(cJSON *json, const char *key, const struct file_id *id)
{
	cJSON *file = id->ino ? cJSON_AddObjectToObject(json, key) : NULL;

	if (!file)
		return;
	add_number(file, "dev", (double)id->dev);
	add_number(file, "ino", (double)id->ino);
	add_number(file, "sec", (double)id->modified.tv_sec);
	add_number(file, "nsec", (double)id->modified.tv_nsec);
}

static void add_origin(cJSON *json, const struct origin_record *o)
{
	cJSON *origin = o->present ? cJSON_AddObjectToObject(json, "origin") : NULL;

	if (!origin)
		return;
	add_number(origin, "lazy", o->lazy);
	add_number(origin, "captured", o->captured);
	add_number(origin, "delta", o->delta);
	add_number(origin, "fill", o->fill);
	add_file(origin, "pages", &o->pages);
	add_file(origin, "base", &o->base);
}

static void add_vm(cJSON *json, const struct vm_record *v)
{
	AUTO_TEXT struct text recipe = { 0 };

	add_number(json, "pid", v->pid);
	add_number(json, "start_time", (double)v->start_time);
	add_text(json, "driver", v->driver);
	add_text(json, "program", v->program.path);
	add_number(json, "abilities", v->program.abilities);
	add_number(json, "uid", v->uid);
	add_text(json, "group", v->group);
	add_number(json, "from_boot", v->from_boot);
	add_text(json, "backend", v->backend);
	add_text(json, "ram_name", v->ram_name);
	add_text(json, "generation", v->generation);
	add_text(json, "vsock", v->vsock);
	add_number(json, "private", v->private);
	add_file(json, "ram", &v->ram);
	add_number(json, "at", (double)v->at);
	add_number(json, "noted", v->noted);
	add_number(json, "has_disk", v->has_disk);
	add_number(json, "saved", (double)v->saved);
	add_origin(json, &v->origin);
	recipe_print(&v->recipe, &recipe);
	if (recipe.data)
		cJSON_AddItemToObject(json, "recipe", cJSON_Parse(recipe.data));
}

static void add_shot(cJSON *array, const struct shot_record *s)
{
	cJSON *json = cJSON_CreateObject();

	add_number(json, "serial", (double)s->serial);
	add_text(json, "name", s->name);
	add_text(json, "path", s->path);
	add_number(json, "made", (double)s->made);
	add_number(json, "described", s->described);
	add_number(json, "complete", s->complete);
	add_number(json, "delta", s->delta);
	add_number(json, "dropped", s->dropped);
	add_file(json, "base", &s->base);
	cJSON_AddItemToArray(array, json);
}

char *fork_record_print(const struct fork_record *r)
{
	cJSON *json = cJSON_CreateObject(), *config, *shots;
	char *out;

	add_number(json, "format", FORK_RECORD_FORMAT);
	add_text(json, "id", r->id);
	add_number(json, "launch", (double)r->launch);
	add_number(json, "uid", r->uid);
	add_number(json, "gid", r->gid);
	add_number(json, "mode", r->mode);
	add_text(json, "state", fork_state_name(r->state));
	add_text(json, "error", r->error);
	add_text(json, "exit", r->exit);
	add_text(json, "snapshot", r->snapshot);
	cJSON_AddNumberToObject(json, "restore_ms", r->restore_ms);
	add_number(json, "started", (double)r->started);
	config = cJSON_AddObjectToObject(json, "config");
	for (int i = 0; i < CONFIG_FORK_COUNT; i++)
		if (r->config.value[i])
			add_text(config, config_keys[i].name, r->config.value[i]);
	if (r->has_vm)
		add_vm(cJSON_AddObjectToObject(json, "vm"), &r->vm);
	shots = cJSON_AddArrayToObject(json, "snapshots");
	for (size_t i = 0; i < r->shot_count; i++)
		add_shot(shots, &r->shots[i]);
	out = cJSON_PrintUnformatted(json);
	cJSON_Delete(json);
	return out;
}

/* --- parsing ------------------------------------------------------------------------------------------------------------------------- */

static const cJSON *get(const cJSON *json, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(json, key);
}

/* What is no number, or none that `max` allows, is 0. */
static uint64_t number(const cJSON *json, const char *key, uint64_t max)
{
	const cJSON *item = get(json, key);

	if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) || item->valuedouble > (double)max)
		return 0;
	return (uint64_t)item->valuedouble;
}

static void text(const cJSON *json, const char *key, char *ret, size_t n)
{
	copy(ret, n, cJSON_GetStringValue(get(json, key)));
}

static void file_id(const cJSON *json, const char *key, struct file_id *ret)
{
	const cJSON *file = get(json, key);

	ret->dev = (dev_t)number(file, "dev", JSON_INTEGER_MAX);
	ret->ino = (ino_t)number(file, "ino", JSON_INTEGER_MAX);
	ret->modified.tv_sec = (time_t)number(file, "sec", JSON_INTEGER_MAX);
	ret->modified.tv_nsec = (long)number(file, "nsec", 999999999);
}

static void parse_origin(const cJSON *json, struct origin_record *o)
{
	o->present = json;
	o->lazy = number(json, "lazy", 1);
	o->captured = number(json, "captured", 1);
	o->delta = number(json, "delta", 1);
	o->fill = (enum fill)number(json, "fill", FILL_BACKGROUND);
	file_id(json, "pages", &o->pages);
	file_id(json, "base", &o->base);
}

static int parse_recipe(const cJSON *json, struct recipe *ret, struct failure *why)
{
	char *printed = json ? cJSON_PrintUnformatted(json) : NULL;
	int r = printed ? recipe_parse(ret, printed, strlen(printed), why) : fail(why, EINVAL, "there is no recipe");

	cJSON_free(printed);
	return r;
}

/* The process first: whatever else can't be read, it has to be ended. */
static int parse_vm(const cJSON *json, struct vm_record *v, struct failure *why)
{
	v->pid = (pid_t)number(json, "pid", INT32_MAX);
	v->start_time = number(json, "start_time", JSON_INTEGER_MAX);
	text(json, "driver", v->driver, sizeof v->driver);
	text(json, "program", v->program.path, sizeof v->program.path);
	v->program.abilities = (unsigned int)number(json, "abilities", UINT32_MAX);
	v->uid = (uid_t)number(json, "uid", UINT32_MAX);
	text(json, "group", v->group, sizeof v->group);
	v->from_boot = number(json, "from_boot", 1);
	text(json, "backend", v->backend, sizeof v->backend);
	text(json, "ram_name", v->ram_name, sizeof v->ram_name);
	text(json, "generation", v->generation, sizeof v->generation);
	text(json, "vsock", v->vsock, sizeof v->vsock);
	v->private = number(json, "private", 1);
	file_id(json, "ram", &v->ram);
	v->at = number(json, "at", JSON_INTEGER_MAX);
	v->noted = number(json, "noted", 1);
	v->has_disk = number(json, "has_disk", 1);
	v->saved = number(json, "saved", JSON_INTEGER_MAX);
	parse_origin(get(json, "origin"), &v->origin);
	if (!v->pid || !v->start_time || !v->ram.ino)
		return fail(why, EINVAL, "there is no telling which process and memory it has");
	return parse_recipe(get(json, "recipe"), &v->recipe, why);
}

static int parse_shots(const cJSON *array, struct fork_record *r, struct failure *why)
{
	int n = cJSON_GetArraySize(array);
	const cJSON *json;

	r->shots = n ? calloc((size_t)n, sizeof *r->shots) : NULL;
	if (n && !r->shots)
		return fail(why, ENOMEM, "no memory for a record");
	cJSON_ArrayForEach(json, array) {
		struct shot_record *s = &r->shots[r->shot_count];

		s->serial = number(json, "serial", JSON_INTEGER_MAX);
		text(json, "name", s->name, sizeof s->name);
		text(json, "path", s->path, sizeof s->path);
		s->made = (time_t)number(json, "made", JSON_INTEGER_MAX);
		s->described = number(json, "described", 1);
		s->complete = number(json, "complete", 1);
		s->delta = number(json, "delta", 1);
		s->dropped = number(json, "dropped", 1);
		file_id(json, "base", &s->base);
		r->shot_count += fork_id_valid(s->name) && *s->path == '/';
	}
	return 0;
}

/* A value that this version doesn't take any more is the default again. */
static void parse_config(const cJSON *json, struct config *ret)
{
	const cJSON *item;

	if (!cJSON_IsObject(json)) /* an array's have no names */
		return;
	cJSON_ArrayForEach(item, json) {
		int key = config_find(item->string);

		if (key >= 0 && key < CONFIG_FORK_COUNT && cJSON_IsString(item))
			config_set(ret, (enum config_id)key, item->valuestring, NULL);
	}
}

static int parse(struct fork_record *r, const cJSON *json, struct failure *why)
{
	const cJSON *vm = get(json, "vm"), *ms = get(json, "restore_ms");
	int state, v = 0;
	char word[16];

	r->has_vm = vm;
	if (vm)
		v = parse_vm(vm, &r->vm, why);
	if (number(json, "format", UINT32_MAX) != FORK_RECORD_FORMAT)
		return fail(why, EOPNOTSUPP, "it was written by another version");
	text(json, "id", r->id, sizeof r->id);
	r->launch = number(json, "launch", JSON_INTEGER_MAX);
	r->uid = (uid_t)number(json, "uid", UINT32_MAX);
	r->gid = (gid_t)number(json, "gid", UINT32_MAX);
	r->mode = (mode_t)number(json, "mode", 0777);
	text(json, "state", word, sizeof word);
	state = fork_state_find(word);
	text(json, "error", r->error, sizeof r->error);
	text(json, "exit", r->exit, sizeof r->exit);
	text(json, "snapshot", r->snapshot, sizeof r->snapshot);
	r->restore_ms = cJSON_IsNumber(ms) && isfinite(ms->valuedouble) ? ms->valuedouble : -1;
	r->started = (time_t)number(json, "started", JSON_INTEGER_MAX);
	parse_config(get(json, "config"), &r->config);
	if (state < 0 || !fork_id_valid(r->id))
		return fail(why, EINVAL, "it names no fork");
	r->state = (enum fork_state)state;
	return v < 0 ? v : parse_shots(get(json, "snapshots"), r, why);
}

int fork_record_parse(struct fork_record *ret, const char *data, size_t n, struct failure *why)
{
	AUTO_JSON cJSON *json = NULL;
	int r;

	*ret = (struct fork_record){ .restore_ms = -1 };
	r = json_parse(&json, data, n, why);
	return r < 0 ? r : parse(ret, json, why);
}

void fork_record_finish(struct fork_record *r)
{
	config_finish(&r->config);
	free(r->shots);
	r->shots = NULL;
	r->shot_count = 0;
}
