/* SPDX-License-Identifier: Apache-2.0
 *
 * What others write and say: a forkd tag's JSON, Firecracker's message with its userfaultfd. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "vmm/firecracker_uffd.h"
#include "vmm/forkd_tag.h"

static struct failure why;

Test(forkd_tag, is_told_from_a_manifest)
{
	const char *tag = "{\"vmstate\":\"/a/vmstate\",\"memory\":\"/a/memory.bin\",\"volumes\":[]}", *ours = "{\"format\":1,\"vmstate\":{},\"memory\":{}}";

	cr_assert(forkd_tag_is(tag, strlen(tag)));
	cr_assert_not(forkd_tag_is(ours, strlen(ours)));
	cr_assert_not(forkd_tag_is("{\"vmstate\":1}", 13));
	cr_assert_not(forkd_tag_is("", 0));
	cr_assert_not(forkd_tag_is("[]", 2));
}

static int parse(const char *json, struct forkd_tag *ret)
{
	return forkd_tag_parse(ret, json, strlen(json), &why);
}

Test(forkd_tag, has_two_absolute_paths)
{
	struct forkd_tag t = { .vmstate = "untouched" };
	static const char *const bad[] = {
		"{\"memory\":\"/m\"}",
		"{\"vmstate\":\"/v\"}",
		"{\"vmstate\":7,\"memory\":\"/m\"}",
		"{\"vmstate\":\"v\",\"memory\":\"/m\"}",
		"{\"vmstate\":\"/v/\",\"memory\":\"/m\"}",
		"{\"vmstate\":\"/v/..\",\"memory\":\"/m\"}",
		"{\"vmstate\":\"/v\",\"vmstate\":\"/w\",\"memory\":\"/m\"}",
		"{\"vmstate\":\"/v\",\"memory\":\"/m\"} x",
	};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		cr_assert_eq(parse(bad[i], &t), -EINVAL, "%s", bad[i]);
	cr_assert_str_eq(t.vmstate, "untouched");
	cr_assert_eq(parse("{\"vmstate\":\"/a/b/state\",\"memory\":\"/ram\",\"rootfs\":null}", &t), 0, "%s", why.text);
	cr_assert_str_eq(forkd_tag_name(t.vmstate), "state");
	cr_assert_str_eq(forkd_tag_name(t.memory), "ram");
}

static int read_message(const char *json, uint64_t *ret)
{
	return firecracker_uffd_parse(ret, json, strlen(json), &why);
}

Test(firecracker_uffd, tells_where_a_guest_is)
{
	uint64_t at = 7;

	cr_assert_eq(read_message("[{\"base_host_virt_addr\":140103982764032,\"size\":134217728,\"offset\":0,\"page_size\":4096,\"page_size_kib\":4096}]", &at), 0, "%s", why.text);
	cr_assert_eq(at, 140103982764032);
	cr_assert_eq(read_message("[{\"base_host_virt_addr\":4096,\"size\":4096},{\"base_host_virt_addr\":16384,\"size\":4096}]", &at), 0);
	cr_assert_eq(at, 0, "two pieces");
}

Test(firecracker_uffd, refuses_nonsense)
{
	static const char *const bad[] = {
		"", "{}", "[]", "[7]", "[{\"size\":4096}]", "[{\"base_host_virt_addr\":4096}]", "[{\"base_host_virt_addr\":4097,\"size\":4096}]",
		"[{\"base_host_virt_addr\":-4096,\"size\":4096}]", "[{\"base_host_virt_addr\":1e300,\"size\":4096}]", "[{\"base_host_virt_addr\":\"4096\",\"size\":4096}]",
	};
	uint64_t at = 7;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		cr_assert_eq(read_message(bad[i], &at), -EINVAL, "%s", bad[i]);
	cr_assert_eq(at, 7);
}
