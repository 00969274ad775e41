/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/firecracker_state.h"

#include <stdio.h>
#include <string.h>

#include "vmm/recipe.h"

#define MAGIC_X86_64 0x0710198486640000u
#define MAGIC_AARCH64 0x07101984AAAA0000u
#define CRC_BYTES 8u
#define VERSION_MAX 32u /* characters */
#define RAM_MIB_MAX (64ull << 20)

#if defined(__x86_64__)
#define MAGIC_HERE MAGIC_X86_64
#elif defined(__aarch64__)
#define MAGIC_HERE MAGIC_AARCH64
#endif

/* What is left to read. */
struct cursor {
	const uint8_t *at;
	size_t left;
};

static bool take(struct cursor *c, size_t n, uint64_t *ret)
{
	uint64_t value = 0;

	if (c->left < n)
		return false;
	for (size_t i = n; i-- > 0;)
		value = value << 8 | c->at[i];
	c->at += n;
	c->left -= n;
	*ret = value;
	return true;
}

/* Returns whether one of the two layouts begins here; c is behind the magic then. */
static bool take_magic(struct cursor *c, uint64_t *ret, bool *ret_compact)
{
	struct cursor compact = *c;
	uint64_t zero;

	*ret_compact = take(&compact, 1, &zero) && !zero && take(&compact, 8, ret) && (*ret == MAGIC_X86_64 || *ret == MAGIC_AARCH64);
	if (*ret_compact) {
		*c = compact;
		return true;
	}
	return take(c, 8, ret) && (*ret == MAGIC_X86_64 || *ret == MAGIC_AARCH64);
}

bool firecracker_state_is(const void *data, size_t n)
{
	struct cursor c = { data, n };
	uint64_t magic;
	bool compact;

	return take_magic(&c, &magic, &compact);
}

int firecracker_version_parse(struct firecracker_version *ret, const char *text)
{
	struct firecracker_version v;

	if (sscanf(text, "%*[v]%3u.%3u.%3u", &v.major, &v.minor, &v.patch) != 3 && sscanf(text, "%3u.%3u.%3u", &v.major, &v.minor, &v.patch) != 3)
		return -EINVAL;
	*ret = v;
	return 0;
}

static bool take_version(struct cursor *c, bool compact, struct firecracker_version *ret)
{
	char text[VERSION_MAX + 1];
	uint64_t len;

	if (!take(c, compact ? 1 : 8, &len) || !len || len > VERSION_MAX || len > c->left)
		return false;
	memcpy(text, c->at, len);
	text[len] = '\0';
	c->at += len;
	c->left -= len;
	return strspn(text, "0123456789.") == len && firecracker_version_parse(ret, text) == 0;
}

static bool take_ram(struct cursor *c, bool compact, uint64_t *ret)
{
	static const size_t width[] = { [0] = 8, [2] = 4, [4] = 2, [6] = 1 };
	uint64_t tag = 0;

	if (compact && (!take(c, 1, &tag) || tag >= ARRAY_LEN(width) || !width[tag]))
		return false;
	return take(c, width[tag], ret);
}

int firecracker_state_parse(struct firecracker_state *ret, const void *data, size_t n, struct failure *why)
{
	struct firecracker_state s;
	struct cursor c = { data, n };
	uint64_t magic, mib;
	bool compact;

	if (n > FIRECRACKER_STATE_MAX)
		return fail(why, EINVAL, "has %zu bytes: Firecracker reads at most %u", n, FIRECRACKER_STATE_MAX);
	if (!take_magic(&c, &magic, &compact))
		return fail(why, EINVAL, "is no Firecracker state: it doesn't begin as one");
	if (magic != MAGIC_HERE)
		return fail(why, EOPNOTSUPP, "is the state of a guest for %s, not for this machine", magic == MAGIC_X86_64 ? "x86_64" : "aarch64");
	if (c.left < CRC_BYTES)
		return fail(why, EINVAL, "is truncated");
	c.left -= CRC_BYTES;
	if (!take_version(&c, compact, &s.version) || !take_ram(&c, compact, &mib))
		return fail(why, EINVAL, "is truncated, or has a head that this forkfs doesn't know");
	if (crc64_jones(0, data, n)) /* over its own CRC, too, it is 0 */
		return fail(why, EINVAL, "is corrupt: its CRC-64 is not that of its content");
	if (!mib || mib > RAM_MIB_MAX)
		return fail(why, EINVAL, "speaks of %llu MiB of RAM", (unsigned long long)mib);
	s.ram_size = mib << 20;
	*ret = s;
	return 0;
}
