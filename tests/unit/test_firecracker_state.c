/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <string.h>

#include "vmm/firecracker_state.h"
#include "vmm/recipe.h"

static struct failure why;

struct bytes {
	uint8_t at[512];
	size_t n;
};

static void put(struct bytes *b, uint64_t value, size_t n)
{
	for (size_t i = 0; i < n; i++)
		b->at[b->n++] = (uint8_t)(value >> 8 * i);
}

static void put_text(struct bytes *b, const char *text)
{
	memcpy(b->at + b->n, text, strlen(text));
	b->n += strlen(text);
}

static void seal(struct bytes *b)
{
	put_text(b, "what the devices have to say");
	put(b, crc64_jones(0, b->at, b->n), 8);
}

#define X86_64 0x0710198486640000u
#define AARCH64 0x07101984AAAA0000u

/* As 1.15 and later write it: `width` bytes of RAM. */
static struct bytes compact(uint64_t magic, const char *version, uint64_t mib, size_t width)
{
	struct bytes b = { .n = 0 };

	put(&b, 0, 1);
	put(&b, magic, 8);
	put(&b, strlen(version), 1);
	put_text(&b, version);
	put(&b, width == 8 ? 0 : width == 4 ? 2 : width == 2 ? 4 : 6, 1);
	put(&b, mib, width);
	seal(&b);
	return b;
}

/* As 1.10 to 1.14 write it. */
static struct bytes wide(uint64_t magic, const char *version, uint64_t mib)
{
	struct bytes b = { .n = 0 };

	put(&b, magic, 8);
	put(&b, strlen(version), 8);
	put_text(&b, version);
	put(&b, mib, 8);
	seal(&b);
	return b;
}

static int parse(struct bytes b, struct firecracker_state *ret)
{
	return firecracker_state_parse(ret, b.at, b.n, &why);
}

Test(firecracker_state, reads_both_layouts)
{
	struct firecracker_state s;
	struct bytes b = compact(X86_64, "10.0.0", 128, 1);

	cr_assert_eq(parse(b, &s), 0, "%s", why.text);
	cr_assert_eq(s.version.major, 10);
	cr_assert_eq(s.version.minor, 0);
	cr_assert_eq(s.ram_size, 128ull << 20);
	cr_assert(firecracker_state_is(b.at, 16));
	cr_assert_eq(parse(compact(X86_64, "9.3.1", 4096, 2), &s), 0, "%s", why.text);
	cr_assert_eq(s.version.minor, 3);
	cr_assert_eq(s.version.patch, 1);
	cr_assert_eq(s.ram_size, 4096ull << 20);
	cr_assert_eq(parse(compact(X86_64, "10.0.0", 70000, 4), &s), 0);
	cr_assert_eq(parse(compact(X86_64, "10.0.0", 70000, 8), &s), 0);
	cr_assert_eq(s.ram_size, 70000ull << 20);
	b = wide(X86_64, "4.0.0", 256);
	cr_assert_eq(parse(b, &s), 0, "%s", why.text);
	cr_assert_eq(s.version.major, 4);
	cr_assert_eq(s.ram_size, 256ull << 20);
	cr_assert(firecracker_state_is(b.at, 16));
}

static void refused(struct bytes b, int code, const char *sentence)
{
	struct firecracker_state s = { .ram_size = 77 };

	cr_assert_eq(parse(b, &s), -code, "%s", sentence);
	cr_assert(strstr(why.text, sentence), "%s", why.text);
	cr_assert_eq(s.ram_size, 77);
}

Test(firecracker_state, refuses_what_it_is_not)
{
	const struct bytes good = compact(X86_64, "10.0.0", 128, 1), old = wide(X86_64, "8.0.0", 128);
	struct bytes b = good;

	cr_assert_not(firecracker_state_is("QEVM and so on, long enough", 16));
	refused((struct bytes){ .n = 0 }, EINVAL, "is no Firecracker state");
	b.at[3] ^= 1;
	refused(b, EINVAL, "is no Firecracker state");
	refused(compact(AARCH64, "10.0.0", 128, 1), EOPNOTSUPP, "aarch64");
	for (size_t i = 9; i < good.n; i++)
		for (int bit = 0; bit < 8; bit++) {
			b = good;
			b.at[i] ^= (uint8_t)(1 << bit);
			cr_assert_eq(parse(b, &(struct firecracker_state){ 0 }), -EINVAL, "byte %zu, bit %d", i, bit);
		}
	for (b = good; b.n-- > 0;)
		cr_assert_eq(parse(b, &(struct firecracker_state){ 0 }), -EINVAL, "%zu bytes", b.n);
	for (b = old; b.n-- > 0;)
		cr_assert_eq(parse(b, &(struct firecracker_state){ 0 }), -EINVAL, "%zu bytes", b.n);
	refused(compact(X86_64, "ten", 128, 1), EINVAL, "a head");
	refused(compact(X86_64, "10.0.0", 0, 1), EINVAL, "0 MiB");
	refused(wide(X86_64, "8.0.0", UINT64_MAX), EINVAL, "MiB of RAM");
	cr_assert_eq(firecracker_state_parse(&(struct firecracker_state){ 0 }, "", FIRECRACKER_STATE_MAX + 1, &why), -EINVAL);
}

Test(firecracker_state, reads_versions)
{
	struct firecracker_version v;

	cr_assert_eq(firecracker_version_parse(&v, "v10.2.3\nand more"), 0);
	cr_assert_eq(v.major, 10);
	cr_assert_eq(v.minor, 2);
	cr_assert_eq(v.patch, 3);
	cr_assert_eq(firecracker_version_parse(&v, "8.0.0"), 0);
	cr_assert_eq(firecracker_version_parse(&v, "vv"), -EINVAL);
	cr_assert_eq(firecracker_version_parse(&v, ""), -EINVAL);
}
