/* SPDX-License-Identifier: Apache-2.0
 *
 * A QEMU, for the two files that it is in: qemu_start.c has its beginning and its end, qemu.c what is asked of it between them. Loop only. */
#ifndef FORKFS_QEMU_PRIVATE_H
#define FORKFS_QEMU_PRIVATE_H

#include "vmm/driver.h"
#include "vmm/handover.h"
#include "vmm/qemu_launch.h"
#include "vmm/qmp.h"
#include "vmm/typist.h"

#define QEMU_RETRIES 1000

enum request { NOTHING, START, MAP, LOAD, RESUME, PAUSE, SAVE };

struct qemu {
	struct vm vm;
	struct vm_spec spec; /* what it points to is borrowed until the start is answered */
	struct job job;
	struct qemu_launched launched; /* the job's result, with `why` */
	bool killed;                   /* asked for while the job ran */
	bool greeted, capable;         /* of a start: the memory is known, the control socket is ready (and a state awaited) */

	enum request request;
	bool running;
	struct failure why;        /* of the request under way, or of the end that is due */
	sd_event_source *deferred; /* answers from outside of the call */
	sd_event_source *timer;
	struct qmp *qmp;
	struct typist typist;
	struct handover handover;
	struct last_words words;

	struct failure refused;  /* of a migration: why its descriptor was */
	bool accepted, migrated; /* likewise: the command was, the event came */
	unsigned int due;        /* answers to cont and stop, whose event has told already */
	int state;               /* load's; save's, which QEMU has been given; -1 */
	int incoming;            /* the pipe that QEMU reads a state from, until it has all of it; -1 */
	off_t fed;               /* bytes of the state that went into it */
	sd_event_source *feed;
	int held;                /* the state that was saved last, as long as the guest has not run since: nobody changes it any more; -1 */
	unsigned int retries;    /* left for cont: a finished save takes a moment to let go */
};

static inline struct qemu *of(struct vm *vm)
{
	return container_of(vm, struct qemu, vm);
}

/* qemu_start.c: as struct driver has them. */
int qemu_start(struct vm **ret, const struct vm_spec *spec, const struct vm_watcher *watcher, void *data, struct failure *why);
int qemu_adopt(struct vm **ret, const struct vm_spec *spec, const struct process *process, const struct vm_watcher *watcher, void *data, struct failure *why);
void qemu_destroy(struct vm *vm);

/* qemu.c: answers the request under way, if there is one. */
void qemu_answered(struct qemu *q, const struct failure *why);

/* As the source q->deferred has it called: answers with q->why, or success where its code is 0. */
int qemu_on_deferred(sd_event_source *source, void *data);

/* Sends a command of QMP's; a failure answers later. */
void qemu_say(struct qemu *q, const char *command, const char *arguments, int fd, qmp_answer to);

/* QEMU has all of the state that it reads, or never will. */
void qemu_end_feed(struct qemu *q);

/* What it tells of its own. */
extern const struct qmp_handler qemu_handler;
void qemu_on_mapped(int error, void *data);

#endif
