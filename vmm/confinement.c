/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/confinement.h"

#include <string.h>

#include "vmm/landlock.h"
#include "vmm/minimal_root.h"

/* What the system's programs and libraries are read and run from. /usr has nothing of anybody's. */
static const struct allow everybodys[] = {
	{ "/usr", -1, ALLOW_READ | ALLOW_EXECUTE },	{ "/lib", -1, ALLOW_READ | ALLOW_EXECUTE },
	{ "/lib64", -1, ALLOW_READ | ALLOW_EXECUTE },	{ "/bin", -1, ALLOW_READ | ALLOW_EXECUTE },
	{ "/etc/ld.so.cache", -1, ALLOW_READ }, { "/etc/alternatives", -1, ALLOW_READ },
};

int confinement_make(struct confinement *ret, const struct allow *list, size_t n, struct failure *why)
{
	AUTO_FREE struct allow *all = malloc((ARRAY_LEN(everybodys) + n) * sizeof *all);

	*ret = CONFINEMENT_NONE;
	if (!all)
		return fail(why, ENOMEM, "no memory to confine a VMM");
	memcpy(all, everybodys, sizeof everybodys);
	memcpy(all + ARRAY_LEN(everybodys), list, n * sizeof *all);
	if (landlock_abi())
		return landlock_make(&ret->ruleset, all, ARRAY_LEN(everybodys) + n, why);
	if (minimal_root_can())
		return minimal_root_make(&ret->root, all, ARRAY_LEN(everybodys) + n, why);
	return 0;
}

void confinement_finish(struct confinement *c)
{
	close_fd(&c->ruleset);
	minimal_root_free(c->root);
	*c = CONFINEMENT_NONE;
}
