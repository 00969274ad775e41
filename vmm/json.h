/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON that somebody else wrote, read strictly: what is doubtful is refused, and the sentence names the key. */
#ifndef FORKFS_JSON_H
#define FORKFS_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/failure.h"

#define JSON_INTEGER_MAX ((1ull << 53) - 1) /* beyond, a double is no longer exact */

/* The one object that `n` bytes of text hold; nothing but white space may follow it, and no string may contain a NUL. The caller frees *ret by
 * json_free(). Returns 0 or -EINVAL. */
int json_parse(cJSON **ret, const char *text, size_t n, struct failure *why);
void json_free(cJSON **json);

#define AUTO_JSON __attribute__((cleanup(json_free)))

/* An object and what its keys are called in a sentence: "", "driver." */
struct json_object {
	const cJSON *json;
	const char *prefix;
	struct failure *why;
};

/* The value of `key`; NULL where it is absent and `required` is false. A key that is there twice is -EINVAL. Returns 0 or -EINVAL. */
int json_get(const struct json_object *o, const char *key, bool required, const cJSON **ret);

/* As json_get(), of an object, required. `prefix` has to outlive *ret. */
int json_get_object(const struct json_object *o, const char *key, const char *prefix, struct json_object *ret);

/* A required whole number of min … max (at most JSON_INTEGER_MAX). */
int json_get_integer(const struct json_object *o, const char *key, uint64_t min, uint64_t max, uint64_t *ret);

/* A value as a string of at most size - 1 bytes without control characters, copied to `ret`. */
int json_copy_string(const struct json_object *o, const char *key, const cJSON *value, char *ret, size_t size);

#endif
