/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/text.h"
#include "vmm/boot_config.h"

#define AUTO_CONFIG __attribute__((cleanup(boot_config_finish)))

static struct failure why;

static int parse(struct boot_config *ret, const char *json)
{
	return boot_config_parse(ret, json, strlen(json), &why);
}

Test(boot_config, whole)
{
	AUTO_CONFIG struct boot_config c = { 0 };

	cr_assert_eq(parse(&c, "{ \"boot-source\": { \"kernel_image_path\": \"/srv/vm/vmlinux\", \"initrd_path\": \"/srv/vm/initrd\","
			       " \"boot_args\": \"console=ttyS0 a=\\\"b, c\\\"\" },"
			       " \"machine-config\": { \"vcpu_count\": 2, \"mem_size_mib\": 256, \"smt\": false, \"track_dirty_pages\": true,"
			       " \"cpu_template\": \"None\", \"huge_pages\": \"None\" },"
			       " \"drives\": [], \"network-interfaces\": [], \"vsock\": null, \"logger\": {}, \"mmds-config\": null }\n"), 0,
		     "%s", why.text);
	cr_assert_str_eq(c.kernel, "/srv/vm/vmlinux");
	cr_assert_str_eq(c.initrd, "/srv/vm/initrd");
	cr_assert_str_eq(c.args, "console=ttyS0 a=\"b, c\"");
	cr_assert_eq(c.vcpus, 2);
	cr_assert_eq(c.ram_size, 256u << 20);
}

Test(boot_config, least)
{
	AUTO_CONFIG struct boot_config c = { 0 }, nulls = { 0 };

	cr_assert_eq(parse(&c, "{\"boot-source\":{\"kernel_image_path\":\"/k\"}}"), 0, "%s", why.text);
	cr_assert_null(c.initrd);
	cr_assert_null(c.args);
	cr_assert_eq(c.vcpus, 1);
	cr_assert_eq(c.ram_size, 128u << 20);
	cr_assert_eq(parse(&nulls, "{\"boot-source\":{\"kernel_image_path\":\"/k\",\"initrd_path\":null,\"boot_args\":null},\"machine-config\":null}"), 0,
		     "%s", why.text);
	cr_assert_null(nulls.initrd);
}

Test(boot_config, limits)
{
	AUTO_CONFIG struct boot_config c = { 0 };

	cr_assert_eq(parse(&c, "{\"boot-source\":{\"kernel_image_path\":\"/k\"},\"machine-config\":{\"vcpu_count\":32,\"mem_size_mib\":67108864}}"), 0,
		     "%s", why.text);
	cr_assert_eq(c.vcpus, 32);
	cr_assert_eq(c.ram_size, 64ull << 40);
}

/* Each is refused and named; `c` is what stands beside a kernel. */
Test(boot_config, refused)
{
	static const struct {
		const char *rest, *key;
		int code;
	} cases[] = {
		{ "\"boot-sauce\":1", "boot-sauce: is unknown", EINVAL },
		{ "\"drives\":[{\"drive_id\":\"rootfs\"}]", "drives", EOPNOTSUPP },
		{ "\"drives\":5", "drives", EOPNOTSUPP },
		{ "\"network-interfaces\":[{}]", "network-interfaces", EOPNOTSUPP },
		{ "\"vsock\":{\"guest_cid\":3}", "vsock", EOPNOTSUPP },
		{ "\"balloon\":{\"amount_mib\":3}", "balloon", EOPNOTSUPP },
		{ "\"cpu-config\":\"/cpu.json\"", "cpu-config", EOPNOTSUPP },
		{ "\"entropy\":{}", "entropy", EOPNOTSUPP },
		{ "\"logger\":{\"level\":\"Info\"}", "logger", EOPNOTSUPP },
		{ "\"metrics\":{\"metrics_path\":\"/m\"}", "metrics", EOPNOTSUPP },
		{ "\"mmds-config\":{\"version\":\"V2\"}", "mmds-config", EOPNOTSUPP },
		{ "\"pmem\":[{\"id\":\"p\"}]", "pmem", EOPNOTSUPP },
		{ "\"serial\":{\"serial_out_path\":\"/s\"}", "serial", EOPNOTSUPP },
		{ "\"memory-hotplug\":{\"total_size_mib\":1024}", "memory-hotplug", EOPNOTSUPP },
		{ "\"machine-config\":{\"smt\":true}", "machine-config.smt", EOPNOTSUPP },
		{ "\"machine-config\":{\"smt\":0}", "machine-config.smt", EINVAL },
		{ "\"machine-config\":{\"track_dirty_pages\":1}", "machine-config.track_dirty_pages", EINVAL },
		{ "\"machine-config\":{\"huge_pages\":\"2M\"}", "machine-config.huge_pages", EOPNOTSUPP },
		{ "\"machine-config\":{\"huge_pages\":2}", "machine-config.huge_pages", EINVAL },
		{ "\"machine-config\":{\"cpu_template\":\"T2\"}", "machine-config.cpu_template", EOPNOTSUPP },
		{ "\"machine-config\":{\"gdb_socket_path\":\"/g\"}", "machine-config.gdb_socket_path", EOPNOTSUPP },
		{ "\"machine-config\":{\"ht_enabled\":true}", "machine-config.ht_enabled: is unknown", EINVAL },
		{ "\"machine-config\":{\"vcpu_count\":0}", "machine-config.vcpu_count", EINVAL },
		{ "\"machine-config\":{\"vcpu_count\":33}", "machine-config.vcpu_count", EINVAL },
		{ "\"machine-config\":{\"vcpu_count\":\"2\"}", "machine-config.vcpu_count", EINVAL },
		{ "\"machine-config\":{\"vcpu_count\":2,\"vcpu_count\":2}", "machine-config.vcpu_count: is there twice", EINVAL },
		{ "\"machine-config\":{\"mem_size_mib\":0}", "machine-config.mem_size_mib", EINVAL },
		{ "\"machine-config\":{\"mem_size_mib\":67108865}", "machine-config.mem_size_mib", EINVAL },
		{ "\"machine-config\":{\"mem_size_mib\":1.5}", "machine-config.mem_size_mib", EINVAL },
		{ "\"machine-config\":[]", "machine-config", EINVAL },
		{ "\"boot-source\":{\"kernel_image_path\":\"/l\"}", "boot-source: is there twice", EINVAL },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct boot_config c = { .vcpus = 77 };
		char json[512];
		int r;

		snprintf(json, sizeof json, "{\"boot-source\":{\"kernel_image_path\":\"/k\"},%s}", cases[i].rest);
		r = parse(&c, json);
		cr_assert_eq(r, -cases[i].code, "%s: %d %s", cases[i].rest, r, why.text);
		cr_assert_eq(strncmp(why.text, cases[i].key, strlen(cases[i].key)), 0, "%s: %s", cases[i].rest, why.text);
		cr_assert_eq(c.vcpus, 77);
	}
}

Test(boot_config, refused_boot_sources)
{
	static const struct {
		const char *source, *key;
	} cases[] = {
		{ "null", "boot-source" },
		{ "{}", "boot-source.kernel_image_path: is missing" },
		{ "{\"initrd_path\":\"/i\"}", "boot-source.kernel_image_path: is missing" },
		{ "{\"kernel_image_path\":null}", "boot-source.kernel_image_path" },
		{ "{\"kernel_image_path\":\"\"}", "boot-source.kernel_image_path" },
		{ "{\"kernel_image_path\":\"vmlinux\"}", "boot-source.kernel_image_path" },
		{ "{\"kernel_image_path\":\"/k\",\"initrd_path\":\"i\"}", "boot-source.initrd_path" },
		{ "{\"kernel_image_path\":\"/k\\n\"}", "boot-source.kernel_image_path" },
		{ "{\"kernel_image_path\":\"/k\\u0000\"}", "a NUL" },
		{ "{\"kernel_image_path\":\"/k\",\"boot_args\":\"a\\tb\"}", "boot-source.boot_args" },
		{ "{\"kernel_image_path\":\"/k\",\"boot_args\":\"\\u00e4\"}", "boot-source.boot_args" },
		{ "{\"kernel_image_path\":\"/k\",\"boot_args\":7}", "boot-source.boot_args" },
		{ "{\"kernel_image_path\":\"/k\",\"kernel\":7}", "boot-source.kernel: is unknown" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct boot_config c;
		char json[512];

		snprintf(json, sizeof json, "{\"boot-source\":%s}", cases[i].source);
		cr_assert_eq(parse(&c, json), -EINVAL, "%s", cases[i].source);
		cr_assert_eq(strncmp(why.text, cases[i].key, strlen(cases[i].key)), 0, "%s: %s", cases[i].source, why.text);
	}
	cr_assert_eq(parse(&(struct boot_config){ 0 }, "{}"), -EINVAL);
	cr_assert(strstr(why.text, "boot-source"), "%s", why.text);
}

Test(boot_config, lengths)
{
	AUTO_CONFIG struct boot_config c = { 0 };
	AUTO_TEXT struct text t = { 0 };
	char args[2049];

	memset(args, 'a', sizeof args);
	text_printf(&t, "{\"boot-source\":{\"kernel_image_path\":\"/k\",\"boot_args\":\"%.*s\"}}", 2048, args);
	cr_assert_eq(parse(&c, t.data), -EINVAL);
	cr_assert(strstr(why.text, "longer than 2047"), "%s", why.text);
	text_finish(&t);
	text_printf(&t, "{\"boot-source\":{\"kernel_image_path\":\"/k\",\"boot_args\":\"%.*s\"}}", 2047, args);
	cr_assert_eq(parse(&c, t.data), 0, "%s", why.text);
	cr_assert_eq(strlen(c.args), 2047);
}

Test(boot_config, too_large)
{
	AUTO_FREE char *json = calloc(1, BOOT_CONFIG_JSON_MAX + 1);
	struct boot_config c;

	cr_assert_eq(boot_config_parse(&c, json, BOOT_CONFIG_JSON_MAX + 1, &why), -EINVAL);
	cr_assert(strstr(why.text, "larger"), "%s", why.text);
}
