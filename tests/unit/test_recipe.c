/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "vmm/recipe.h"

static const char whole[] =
	"{\"format\":1,\"driver\":{\"name\":\"qemu\",\"version\":\"7.2.22\"},\"machine\":\"microvm\",\"cpu\":\"max\",\"accel\":\"tcg\","
	"\"vcpus\":1,\"ram_size\":268435456,\"devices\":[{\"type\":\"serial\",\"id\":\"console\"}],"
	"\"memory\":{\"file\":\"memory.bin\",\"size\":268435456,\"identity\":\"0f4bb2ea-9d3c-4f0e-9d44-0a1b2c3d4e5f\"},"
	"\"vmstate\":{\"file\":\"vmstate\",\"size\":39000,\"crc64\":\"e9c6d914c4b8d9ca\"},\"created\":\"2025-01-02T03:04:05Z\"}";

static struct failure why;

static int parse(struct recipe *ret, const char *json)
{
	return recipe_parse(ret, json, strlen(json), &why);
}

/* The whole recipe with the first `from` in it changed into `to`. */
static const char *with(const char *from, const char *to)
{
	static char json[2048];
	const char *at = strstr(whole, from);

	cr_assert_not_null(at, "%s", from);
	snprintf(json, sizeof json, "%.*s%s%s", (int)(at - whole), whole, to, at + strlen(from));
	return json;
}

Test(recipe, parse)
{
	struct recipe r;

	cr_assert_eq(parse(&r, whole), 0, "%s", why.text);
	cr_assert_eq(r.format, 1);
	cr_assert_str_eq(r.driver, "qemu");
	cr_assert_str_eq(r.driver_version, "7.2.22");
	cr_assert_str_eq(r.machine, "microvm");
	cr_assert_str_eq(r.cpu, "max");
	cr_assert_str_eq(r.accel, "tcg");
	cr_assert_eq(r.vcpus, 1);
	cr_assert_eq(r.ram_size, 268435456);
	cr_assert_eq(r.device_count, 1);
	cr_assert_str_eq(r.devices[0].type, "serial");
	cr_assert_str_eq(r.devices[0].id, "console");
	cr_assert_str_eq(r.memory.file, "memory.bin");
	cr_assert_eq(r.memory.size, 268435456);
	cr_assert_str_eq(r.memory.identity, "0f4bb2ea-9d3c-4f0e-9d44-0a1b2c3d4e5f");
	cr_assert_str_eq(r.vmstate.file, "vmstate");
	cr_assert_eq(r.vmstate.size, 39000);
	cr_assert(r.vmstate.has_crc64);
	cr_assert_eq(r.vmstate.crc64, 0xe9c6d914c4b8d9caull);
	cr_assert_str_eq(r.created, "2025-01-02T03:04:05Z");
}

Test(recipe, print_and_parse_again)
{
	AUTO_TEXT struct text t = { 0 }, again = { 0 };
	struct recipe r, second;

	cr_assert_eq(parse(&r, with("268435456", "70368744177664")), -EINVAL, "RAM larger than the file");
	cr_assert_eq(parse(&r, whole), 0);
	r.ram_size = r.memory.size = 64ull << 40;
	r.vmstate.size = (1ull << 53) - 1;
	r.vmstate.crc64 = 5;
	r.vcpus = 32;
	recipe_print(&r, &t);
	cr_assert_not(t.failed);
	cr_assert_eq(t.data[t.len - 1], '\n');
	cr_assert_eq(parse(&second, t.data), 0, "%s", why.text);
	cr_assert_eq(second.ram_size, 64ull << 40);
	cr_assert_eq(second.vmstate.size, (1ull << 53) - 1);
	cr_assert_eq(second.vmstate.crc64, 5);
	cr_assert_eq(second.vcpus, 32);
	recipe_print(&second, &again);
	cr_assert_str_eq(t.data, again.data);
}

Test(recipe, what_may_be_left_out)
{
	AUTO_TEXT struct text t = { 0 };
	struct recipe r;

	cr_assert_eq(parse(&r, with(",\"accel\":\"tcg\"", "")), 0, "%s", why.text);
	cr_assert_str_eq(r.accel, "");
	cr_assert_eq(parse(&r, with(",\"created\":\"2025-01-02T03:04:05Z\"", "")), 0, "%s", why.text);
	cr_assert_str_eq(r.created, "");
	cr_assert_eq(parse(&r, with(",\"identity\":\"0f4bb2ea-9d3c-4f0e-9d44-0a1b2c3d4e5f\"", "")), 0, "%s", why.text);
	cr_assert_str_eq(r.memory.identity, "");
	cr_assert_eq(parse(&r, with(",\"crc64\":\"e9c6d914c4b8d9ca\"", ",\"later\":[{\"x\":null}]")), 0, "%s", why.text);
	cr_assert_not(r.vmstate.has_crc64);
	recipe_print(&r, &t);
	cr_assert_null(strstr(t.data, "crc64"));
}

/* Each is refused, by the name of its key. */
Test(recipe, refused)
{
	static const struct {
		const char *from, *to, *key;
		int code;
	} cases[] = {
		{ "\"format\":1", "\"format\":2", "format", EOPNOTSUPP },
		{ "\"format\":1", "\"format\":0", "format", EINVAL },
		{ "\"format\":1", "\"format\":\"1\"", "format", EINVAL },
		{ "\"format\":1,", "", "format", EINVAL },
		{ "\"format\":1", "\"format\":1,\"format\":1", "format: is there twice", EINVAL },
		{ "{\"name\":\"qemu\",\"version\":\"7.2.22\"}", "7", "driver", EINVAL },
		{ "\"name\":\"qemu\"", "\"name\":\"qemu,kvm\"", "driver.name", EINVAL },
		{ "\"name\":\"qemu\"", "\"name\":\"\"", "driver.name", EINVAL },
		{ "\"name\":\"qemu\"", "\"name\":\"qemuqemuqemuqemu\"", "driver.name", EINVAL },
		{ "\"version\":\"7.2.22\"", "\"version\":\"7\\n2\"", "driver.version", EINVAL },
		{ ",\"version\":\"7.2.22\"", "", "driver.version", EINVAL },
		{ "microvm", "micro vm", "machine", EINVAL },
		{ "microvm", "-microvm", "machine", EINVAL },
		{ "\"max\"", "\"max,+x\"", "cpu", EINVAL },
		{ "\"max\"", "[]", "cpu", EINVAL },
		{ "\"tcg\"", "null", "accel", EINVAL },
		{ "\"tcg\"", "\"tcg;id\"", "accel", EINVAL },
		{ "\"vcpus\":1", "\"vcpus\":0", "vcpus", EINVAL },
		{ "\"vcpus\":1", "\"vcpus\":1.5", "vcpus", EINVAL },
		{ "\"vcpus\":1", "\"vcpus\":1025", "vcpus", EINVAL },
		{ "\"vcpus\":1", "\"vcpus\":-1", "vcpus", EINVAL },
		{ "\"vcpus\":1", "\"vcpus\":true", "vcpus", EINVAL },
		{ "\"ram_size\":268435456", "\"ram_size\":0", "ram_size", EINVAL },
		{ "\"ram_size\":268435456", "\"ram_size\":4097", "ram_size", EINVAL },
		{ "\"ram_size\":268435456", "\"ram_size\":70368744181760", "ram_size", EINVAL },
		{ "\"ram_size\":268435456", "\"ram_size\":1e300", "ram_size", EINVAL },
		{ "\"ram_size\":268435456", "\"ram_size\":1e999", "ram_size", EINVAL },
		{ "[{\"type\":\"serial\",\"id\":\"console\"}]", "{}", "devices", EINVAL },
		{ "[{\"type\":\"serial\",\"id\":\"console\"}]", "[7]", "devices", EINVAL },
		{ "serial", "virtio-net", "devices.type", EOPNOTSUPP },
		{ ",\"id\":\"console\"", "", "devices.id", EINVAL },
		{ "memory.bin", "../memory.bin", "memory.file", EINVAL },
		{ "memory.bin", "..", "memory.file", EINVAL },
		{ "memory.bin", "", "memory.file", EINVAL },
		{ "\"size\":268435456", "\"size\":268431360", "memory.size", EINVAL },
		{ "0f4bb2ea-9d3c", "0f4bb2ea+9d3c", "memory.identity", EINVAL },
		{ "0a1b2c3d4e5f", "0a1b2c3d4e", "memory.identity", EINVAL },
		{ "\"size\":39000", "\"size\":9007199254740993", "vmstate.size", EINVAL },
		{ "e9c6d914c4b8d9ca", "e9c6d914c4b8d9c", "vmstate.crc64", EINVAL },
		{ "e9c6d914c4b8d9ca", "e9c6d914c4b8d9cag", "vmstate.crc64", EINVAL },
		{ "e9c6d914c4b8d9ca", "0x00000000000000", "vmstate.crc64", EINVAL },
		{ "03:04:05Z", "03:04:05", "created", EINVAL },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct recipe r = { .format = 77 };
		int e = parse(&r, with(cases[i].from, cases[i].to));

		cr_assert_eq(e, -cases[i].code, "%s -> %s: %d %s", cases[i].from, cases[i].to, e, why.text);
		cr_assert_eq(strncmp(why.text, cases[i].key, strlen(cases[i].key)), 0, "%s: %s", cases[i].key, why.text);
		cr_assert_eq(r.format, 77);
	}
}

Test(recipe, not_json)
{
	static const char *const cases[] = { "", " ", "[]", "7", "\"x\"", "{", "{\"a\":}", "{} {}", "{}x" };
	struct recipe r;
	char json[sizeof whole];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		cr_assert_eq(parse(&r, cases[i]), -EINVAL, "%s", cases[i]);
	memcpy(json, whole, sizeof whole);
	cr_assert_eq(recipe_parse(&r, json, sizeof whole, &why), -EINVAL, "a NUL behind it");
	cr_assert_eq(recipe_parse(&r, json, sizeof whole - 2, &why), -EINVAL, "cut");
	cr_assert_eq(recipe_parse(&r, json, sizeof whole - 1, NULL), 0);
	cr_assert_eq(parse(&r, with("05Z\"}", "05Z\"}x")), -EINVAL);
	cr_assert_eq(parse(&r, with("05Z\"}", "05Z\"}{}")), -EINVAL);
	cr_assert_eq(parse(&r, with("05Z\"}", "05Z\"} \t\r\n")), 0);
	cr_assert_eq(parse(&r, with("microvm", "micro\\u0000vm")), -EINVAL);
	cr_assert(strstr(why.text, "NUL"), "%s", why.text);
	cr_assert_eq(parse(&r, with("memory.bin", "a\\\\u0000")), 0, "an escaped backslash is none before u0000: %s", why.text);
	cr_assert_str_eq(r.memory.file, "a\\u0000");
}

Test(recipe, too_large)
{
	AUTO_FREE char *json = malloc(RECIPE_JSON_MAX + 1);
	struct recipe r;

	memset(json, ' ', RECIPE_JSON_MAX + 1);
	memcpy(json, whole, sizeof whole - 1);
	cr_assert_eq(recipe_parse(&r, json, RECIPE_JSON_MAX + 1, &why), -EINVAL);
	cr_assert_eq(recipe_parse(&r, json, RECIPE_JSON_MAX, &why), 0, "%s", why.text);
}

Test(recipe, devices)
{
	AUTO_TEXT struct text t = { 0 };
	struct recipe r;

	cr_assert_eq(parse(&r, whole), 0);
	for (r.device_count = 0; r.device_count < RECIPE_DEVICES_MAX; r.device_count++)
		r.devices[r.device_count] = (struct recipe_device){ "serial", "console" };
	recipe_print(&r, &t);
	cr_assert_eq(recipe_parse(&r, t.data, t.len, &why), 0, "%s", why.text);
	cr_assert_eq(r.device_count, RECIPE_DEVICES_MAX);
	cr_assert_eq(parse(&r, with("[{\"type\"", "[{\"type\":\"serial\",\"id\":\"a\"},{\"type\":\"serial\",\"id\":\"b\"},{\"type\"")), 0);
	cr_assert_eq(r.device_count, 3);
}

Test(recipe, one_device_too_many)
{
	AUTO_TEXT struct text list = { 0 };
	struct recipe r;

	for (int i = 0; i < RECIPE_DEVICES_MAX; i++)
		text_puts(&list, "{\"type\":\"serial\",\"id\":\"a\"},");
	text_puts(&list, "{\"type\"");
	cr_assert_eq(parse(&r, with("{\"type\"", list.data)), -EINVAL);
	cr_assert(strstr(why.text, "more than 16"), "%s", why.text);
}

Test(crc64, known_values)
{
	uint64_t crc = crc64_jones(0, "123456789", 9);
	unsigned char own[8];

	cr_assert_eq(crc, 0xe9c6d914c4b8d9caull);
	cr_assert_eq(crc64_jones(crc64_jones(0, "1234", 4), "56789", 5), crc);
	cr_assert_eq(crc64_jones(7, "", 0), 7);
	for (int i = 0; i < 8; i++)
		own[i] = (unsigned char)(crc >> 8 * i);
	cr_assert_eq(crc64_jones(crc, own, 8), 0, "a text and its own CRC give 0");
}

/* As the polynomial says it, bit by bit. */
static uint64_t crc_of(const unsigned char *data, size_t n)
{
	uint64_t crc = 0;

	for (size_t i = 0; i < n; i++) {
		crc ^= data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0x95AC9329AC4BC9B5u : crc >> 1;
	}
	return crc;
}

Test(recipe, crc64_of_all_lengths_and_places)
{
	unsigned char bytes[64];

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (unsigned char)(i * 167 + 13);
	for (size_t from = 0; from < 9; from++)
		for (size_t n = 0; n + from <= sizeof bytes; n++)
			cr_assert_eq(crc64_jones(0, bytes + from, n), crc_of(bytes + from, n), "%zu bytes from %zu", n, from);
}
