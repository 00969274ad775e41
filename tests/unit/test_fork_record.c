/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "vmm/fork_record.h"

static struct failure why;

static void parse(struct fork_record *ret, const char *json)
{
	cr_assert_eq(fork_record_parse(ret, json, strlen(json), &why), 0, "%s", why.text);
}

/* A VM with all that can be said of it, and two snapshots. */
static struct fork_record full(void)
{
	struct fork_record r = { .id = "a", .uid = 1000, .gid = 100, .mode = 0750, .state = FORK_PAUSED, .restore_ms = 1.5, .started = 1700000000, .has_vm = true };
	struct vm_record *v = &r.vm;

	snprintf(r.error, sizeof r.error, "%s", "a sentence with \"quotes\" and \\");
	snprintf(r.snapshot, sizeof r.snapshot, "%s", "/srv/a\nb");
	config_set(&r.config, CONFIG_TIMEOUT, "1234", NULL);
	*v = (struct vm_record){ .pid = 77, .start_time = 1ull << 40, .driver = "qemu", .uid = 1500000001, .backend = "memfd-shared", .ram_name = "pool-7",
				 .generation = "none", .ram = { 1, 4711, { 5, 999999999 } }, .at = 0x7f0000000000, .noted = true };
	snprintf(v->program.path, sizeof v->program.path, "%s", "/usr/bin/qemu-system-x86_64");
	v->program.abilities = 65;
	v->origin = (struct origin_record){ .present = true, .lazy = true, .captured = true, .delta = true, .fill = FILL_BACKGROUND, .pages = { 2, 3, { 4, 5 } }, .base = { 6, 7, { 8, 9 } } };
	v->recipe = (struct recipe){ .format = RECIPE_FORMAT, .driver = "qemu", .driver_version = "7.2", .machine = "pc", .cpu = "max", .accel = "tcg", .vcpus = 2, .ram_size = 1 << 20, .device_count = 1,
				     .devices = { { "serial", "console" } }, .memory = { .file = "m", .size = 1 << 20 }, .vmstate = { .file = "v", .size = 1 } };
	r.shots = calloc(2, sizeof *r.shots);
	r.shot_count = 2;
	r.shots[0] = (struct shot_record){ .serial = 9, .name = "one", .path = "/dev/shm/a.one.9", .made = 3, .complete = true, .delta = true, .base = { 1, 2, { 3, 4 } } };
	r.shots[1] = (struct shot_record){ .serial = 10, .name = "two", .path = "/x/a.two.10" };
	return r;
}

Test(fork_record, comes_back_as_it_was)
{
	struct fork_record first = full(), second;
	char *json = fork_record_print(&first);

	parse(&second, json);
	cr_assert_str_eq(second.error, first.error);
	cr_assert_str_eq(second.snapshot, first.snapshot);
	cr_assert(second.uid == 1000 && second.gid == 100 && second.mode == 0750 && second.state == FORK_PAUSED && second.restore_ms == 1.5);
	cr_assert_str_eq(config_get(&second.config, CONFIG_TIMEOUT), "1234");
	cr_assert(second.has_vm);
	cr_assert(second.vm.pid == 77 && second.vm.start_time == 1ull << 40 && second.vm.uid == 1500000001 && second.vm.noted && second.vm.at == 0x7f0000000000);
	cr_assert(second.vm.ram.ino == 4711 && second.vm.ram.modified.tv_nsec == 999999999);
	cr_assert(!memcmp(&second.vm.origin, &first.vm.origin, sizeof first.vm.origin));
	cr_assert_str_eq(second.vm.recipe.cpu, "max");
	cr_assert_eq(second.shot_count, 2);
	cr_assert(second.shots[0].complete && second.shots[0].delta && second.shots[0].base.ino == 2 && second.shots[0].serial == 9);
	cr_assert_str_eq(second.shots[1].path, "/x/a.two.10");
	cr_assert(!second.shots[1].complete);
	free(json);
	fork_record_finish(&first);
	fork_record_finish(&second);
}

/* Every prefix of one is refused, or it is whole. */
Test(fork_record, torn)
{
	struct fork_record first = full(), second;
	char *json = fork_record_print(&first);

	for (size_t n = 0; n < strlen(json); n++) {
		cr_assert_eq(fork_record_parse(&second, json, n, &why), -EINVAL);
		fork_record_finish(&second);
	}
	free(json);
	fork_record_finish(&first);
}

/* One of another version isn't understood, but whom to end is. */
Test(fork_record, other_version)
{
	static const char json[] = "{\"format\":99,\"vm\":{\"pid\":12,\"start_time\":13}}";
	struct fork_record r;

	cr_assert_eq(fork_record_parse(&r, json, strlen(json), &why), -EOPNOTSUPP);
	cr_assert(r.vm.pid == 12 && r.vm.start_time == 13);
	fork_record_finish(&r);
}

Test(fork_record, no_fork)
{
	static const char *const bad[] = {
		"{\"format\":2}", "{\"format\":2,\"id\":\"a\",\"state\":\"merry\"}", "{\"format\":2,\"id\":\"../x\",\"state\":\"empty\"}",
		"{\"format\":2,\"id\":\"a\",\"state\":\"running\",\"vm\":{}}",
	};
	struct fork_record r;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		cr_assert_eq(fork_record_parse(&r, bad[i], strlen(bad[i]), &why), -EINVAL, "%s", bad[i]);
		fork_record_finish(&r);
	}
}
