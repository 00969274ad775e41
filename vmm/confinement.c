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
	int r = 0;

	*ret = CONFINEMENT_NONE;
	if (!all)
		return fail(why, ENOMEM, "no memory to confine a VMM");
	memcpy(all, everybodys, sizeof everybodys);
	memcpy(all + ARRAY_LEN(everybodys), list, n * sizeof *all);
	/* Landlock lets a process connect to any socket that has a name, and look at what it can't open. */
	if (minimal_root_can())
		r = minimal_root_make(&ret->root, all, ARRAY_LEN(everybodys) + n, why);
	if (r == 0)
		r = landlock_make(&ret->ruleset, all, ARRAY_LEN(everybodys) + n, why);
	if (r < 0)
		confinement_finish(ret);
	return r;
}

void confinement_end(void)
{
	minimal_root_forget();
}

void confinement_finish(struct confinement *c)
{
	close_fd(&c->ruleset);
	close_fd(&c->root);
	*c = CONFINEMENT_NONE;
}
