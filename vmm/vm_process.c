/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm_process.h"

#define THREADS_MAX 512         /* of its user; 32 vCPUs, QEMU's 64 workers and a few more */
#define LOCKED_MAX (64u << 10)  /* bytes that are never swapped out */
#define OOM_SCORE 500           /* as if it had half of all memory besides */

struct process_spec vm_process(const struct vm_spec *spec, const struct confinement *files, rlim_t open_files)
{
	return (struct process_spec){
		.output = spec->log,
		.drop = spec->drop,
		.uid = spec->uid,
		.gid = spec->gid,
		.netns = spec->netns,
		.groups = spec->groups,
		.files = files,
		.oom_score = OOM_SCORE,
		/* a user that isn't its own has processes besides */
		.limits = { { RLIMIT_NOFILE, open_files }, { RLIMIT_NPROC, spec->drop ? THREADS_MAX : 0 }, { RLIMIT_MEMLOCK, LOCKED_MAX } },
	};
}
