/* SPDX-License-Identifier: Apache-2.0
 *
 * A Firecracker, for the two files that it is in: firecracker_start.c has its beginning and its end, firecracker.c what is asked of it between them. Loop only. */
#ifndef FORKFS_FIRECRACKER_PRIVATE_H
#define FORKFS_FIRECRACKER_PRIVATE_H

#include "vmm/driver.h"
#include "vmm/firecracker_api.h"
#include "vmm/firecracker_files.h"
#include "vmm/firecracker_launch.h"
#include "vmm/opens.h"
#include "vmm/typist.h"

enum request { NOTHING, START, MAP, LOAD, RESUME, PAUSE, SAVE };

struct firecracker {
	struct vm vm;
	struct vm_spec spec; /* what it points to is borrowed until the start is answered */
	char *id;
	unsigned int abilities;
	struct job job;
	struct firecracker_launched launched; /* the job's result, with `why` */
	bool killed;                          /* asked for while the job ran */

	enum request request;
	struct failure why; /* of the request under way, or of the end that is due */
	sd_event_source *deferred, *timer, *created, *warming;
	struct firecracker_api *api;
	struct opens opens;
	struct typist typist;

	struct firecracker_files files;
	pid_t api_thread;     /* its one that answers, 0: unknown */
	bool hurried;         /* the threads that answer go before all others */
	int memory;           /* of those, its own; -1 */
	bool shared;          /* it is its own, mapped shared */
	bool unborn;          /* a guest that is booted, and has not begun */
	bool loading, loaded; /* the load was asked for; answered */
	int go;         /* where the one that handed over a userfaultfd waits for a byte, -1 */
	sd_event_source *handover, *mapped;
};

static inline struct firecracker *of(struct vm *vm)
{
	return container_of(vm, struct firecracker, vm);
}

/* firecracker_start.c: as struct driver has them. */
int firecracker_start(struct vm **ret, const struct vm_spec *spec, const struct vm_watcher *watcher, void *data, struct failure *why);
int firecracker_adopt(struct vm **ret, const struct vm_spec *spec, const struct process *process, const struct vm_watcher *watcher, void *data, struct failure *why);
void firecracker_destroy(struct vm *vm);

/* firecracker.c: answers the request under way, if there is one. */
void firecracker_answered(struct firecracker *f, const struct failure *why);

/* With f->why, or success where its code is 0; what firecracker_on_deferred() does, as the source f->deferred has it called. */
void firecracker_answer_later(struct firecracker *f);
int firecracker_on_deferred(sd_event_source *source, void *data);

/* Sends a request of the API's; a failure answers later. */
void firecracker_ask(struct firecracker *f, const char *method, const char *target, const char *body, firecracker_answer to);

/* What comes of it is what comes of the request under way. */
void firecracker_on_answer(const struct failure *why, void *data);

/* Its threads have no more priority than others. */
void firecracker_calm(struct firecracker *f);

/* The one timer. Returns 0 or a negative errno. */
int firecracker_after(struct firecracker *f, uint64_t usec, sd_event_time_handler_t what);

/* It connects to hand over a userfaultfd. */
int firecracker_on_handover(sd_event_source *source, int fd, uint32_t revents, void *data);

/* A guest that was booted runs: its userfaultfd is asked for. */
void firecracker_on_begun(const struct failure *why, void *data);

#endif
