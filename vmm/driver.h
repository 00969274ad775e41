/* SPDX-License-Identifier: Apache-2.0
 *
 * The border to the VMMs: one const table of operations each. Nothing outside a driver's own files knows what is behind it. */
#ifndef FORKFS_DRIVER_H
#define FORKFS_DRIVER_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "vmm/base/failure.h"
#include "vmm/base/jobs.h"
#include "vmm/base/text.h"
#include "vmm/kvm.h"
#include "vmm/memory/region.h"
#include "vmm/process.h"
#include "vmm/recipe.h"
#include "vmm/vm_memory.h"

/* What has to be known of the VMM's program to start it. */
struct driver_program {
	char path[256];         /* "" none is needed */
	unsigned int abilities; /* the driver's own bits: what it can do beyond the least */
	unsigned int state_major, state_minor; /* of the newest format of device states that it reads, 0: that isn't known beforehand */
};

/* What a probe found out about it. */
struct driver_facts {
	bool usable;
	bool accel_kvm;        /* it can use the host's KVM */
	bool avoid;            /* "auto" had better take another one */
	bool boots;            /* it can boot a guest whose RAM is a memfd */
	bool places;           /* pages can be put into its memory before it loads the state */
	bool sets_clock;       /* it can move a guest's clock on when it loads it */
	char version[64];      /* "7.2.22"; "" unknown */
	char detail[160];      /* what else doctor tells; "" nothing */
	struct driver_program program;
	struct failure why;    /* when it is not usable: ENODEV and a sentence that says what to do; EIO, ETIMEDOUT: it is the right program, which ended or said nothing */
};

/* What a VMM is started with; none of it can change later. The strings and descriptors are borrowed until the answer to start(); the driver
 * duplicates what it keeps longer. */
struct vm_spec {
	sd_event *event;
	struct jobs *jobs;
	const char *id;               /* a name for messages and the process's title */
	const struct driver_program *program;
	int dir;                      /* O_PATH, a directory for its sockets; 0700, the daemon's */
	const struct recipe *recipe;  /* driver, machine, cpu, accel, vcpus, ram_size, devices */
	const struct region *ram;     /* REGION_SHARED, its own: mapped shared */
	bool drop;                    /* run as uid and gid */
	uid_t uid;
	gid_t gid;
	int netns;                    /* network namespace to join, -1 none */
	const int *groups;            /* process_spec's */
	int console;                  /* the console's record: output is appended here; O_APPEND */
	int log;                      /* stdout and stderr of the VMM; O_APPEND */
	/* a boot; else kernel is -1, and it waits for load(): */
	int kernel, initrd;           /* memfds, initrd -1: none */
	const char *args;             /* kernel command line, never NULL */
};

struct caller;
struct vm;

#define VM_KEPT 2

/* Whoever owns the vm is told here, on the loop, never from inside a call of the driver's. */
struct vm_watcher {
	/* The one request under way (start, map, load, pause, resume, save) has been answered: why NULL, or why not. After a start that failed with no process
	 * (vm->process.pid is 0) nothing more is told: destroy it. */
	void (*answered)(struct vm *vm, const struct failure *why, void *data);
	/* A worker makes something that the VMM waits for: its time for an answer stands still, and begins anew. */
	void (*busy)(struct vm *vm, bool busy, void *data);
	/* The process has ended and is reaped. A request under way has been answered before. Nothing is told after this. */
	void (*exited)(struct vm *vm, const siginfo_t *how, void *data);
	/* The console takes bytes again after type() gave -EAGAIN. */
	void (*typable)(struct vm *vm, void *data);
	/* The guest stopped or went on without a request (the VMM's own decision, an error of a device). */
	void (*turned)(struct vm *vm, bool running, void *data);
};

/* The base of every driver's own struct, its first member. */
struct vm {
	const struct driver *driver;
	struct process process;
	const struct vm_watcher *watcher;
	void *data;
	int kept[VM_KEPT];       /* borrowed, -1 none: what else a successor of the daemon needs to find in the process; set before map() */
	bool left;               /* set before destroy(): the process goes on, for the next daemon */
	bool realtime;           /* set before map(): the guest's clock is to be moved on by what has passed since the snapshot */
	const char *disks;       /* set before map(), borrowed until load() is answered: the directory for its own copy of a disk that its guest writes; NULL: that is refused */
	const char *tap;         /* likewise: the host's tap that its guest's network interface leads to; NULL: it leads nowhere */
	struct caller *caller;   /* likewise: who has to have the right to that tap */
	bool has_disk;           /* known when load() is answered: its guest has such a copy, which is in no snapshot */
	const char *vsock;       /* where its guest's vsock is, below vm_spec.dir; known when load() is answered; NULL none */
	char generation[40];     /* the VM generation id that its guest finds, known when the start is answered; "" unknown, though there is one; "none" */
	struct vm_memory memory; /* known when the start is answered, or map(); of a boot a moment after its guest began, it may be */
};

/* One that has not begun. */
#define VM_NEW(its_driver, its_watcher, its_data)                                                                                                \
	((struct vm){ .driver = (its_driver), .process.pidfd = -1, .watcher = (its_watcher), .data = (its_data), .kept = { -1, -1 }, .memory = VM_MEMORY_UNKNOWN })

struct driver {
	const char *name;
	bool automatic; /* config/vmm "auto" may choose it */

	/* Looks at the program at `path`, NULL for a driver without one: on a worker, may take a while. */
	void (*probe)(const char *path, const struct kvm_facts *kvm, struct driver_facts *ret);

	/* Whether such a program can do this at all: machine, cpu, accel, devices, vcpus, a kind of region. Returns 0; -EOPNOTSUPP or -EINVAL with a sentence. */
	int (*check)(const struct recipe *recipe, enum region_kind kind, const struct driver_facts *facts, struct failure *why);

	/* Whether it can load this device state, a file that nobody changes: what can be seen before there is a process. Returns as check(). NULL: nothing can. */
	int (*check_state)(const struct recipe *recipe, int vmstate, const struct driver_facts *facts, struct failure *why);

	/* What it puts into the recipe of a fresh boot for machine, accel ("kvm" or "tcg"), version: cpu, devices. Returns 0 or -EOPNOTSUPP. */
	int (*describe)(struct recipe *recipe, const struct driver_facts *facts, struct failure *why);

	/* Makes the vm and begins to start it: answered() comes when the guest is ready to boot and stopped, or the VMM waits for load(). Returns 0, or a negative
	 * errno at once: then nothing was made. */
	int (*start)(struct vm **ret, const struct vm_spec *spec, const struct vm_watcher *watcher, void *data, struct failure *why);

	/* Gives a VMM that waits its guest's memory: REGION_FILE is mapped instead of its own, private; NULL: its own is what the guest needs. `vmstate` is what load() will
	 * load. Both are borrowed until load() is answered. It is never asked twice. answered() comes when pages can be placed: vm->memory is known if it ever is. */
	void (*map)(struct vm *vm, const struct region *ram, int vmstate);

	/* Loads the device state of that guest (borrowed until answered; its offset may be moved): answered() comes when it is loaded and stopped. */
	void (*load)(struct vm *vm, int vmstate);

	/* Requests, one at a time; answered() follows. pause of a stopped guest and resume of a running one succeed. */
	void (*resume)(struct vm *vm);
	void (*pause)(struct vm *vm);

	/* Between two requests, while the guest may still run: the next save() will be to `fd`. Nothing is answered; what can be done beforehand is. NULL: nothing. */
	void (*expect_save)(struct vm *vm, int fd);

	/* Writes the device state of the stopped guest to `fd` (an empty file; borrowed until answered). */
	void (*save)(struct vm *vm, int fd);

	/* Between two requests: it outlives the daemon from now on, and keeps vm->kept open; before that it ends with the daemon. Nothing is answered. */
	void (*keep)(struct vm *vm);

	/* Makes the vm of a guest that another daemon left: spec->id, event, jobs, program, dir, recipe, drop, uid, console and log are set. Takes `process` on success; vm->memory is the
	 * caller's to fill in. answered() comes when it can be asked again. Returns as start(). */
	int (*adopt)(struct vm **ret, const struct vm_spec *spec, const struct process *process, const struct vm_watcher *watcher, void *data, struct failure *why);

	/* Types into the serial console. Returns how many bytes were taken, at least 1; -EAGAIN: typable() will tell; -EIO. */
	ssize_t (*type)(struct vm *vm, const void *data, size_t n);

	/* Of one that is being adopted: as far as is known its guest has not run since this state was saved, a file that nobody changes; `fd` is borrowed. NULL: it can save it again anyway. */
	void (*saved)(struct vm *vm, int fd);

	/* Ends the process by SIGKILL whatever it does; exited() follows. */
	void (*kill)(struct vm *vm);

	/* Frees it; after exited(), or before a process was there, or to leave one that is kept to the next daemon. */
	void (*destroy)(struct vm *vm);
};

extern const struct driver driver_firecracker, driver_qemu, driver_null;

/* All there are, NULL-terminated, the order in which "auto" tries them. */
extern const struct driver *const drivers[];

static inline bool driver_program_same(const struct driver_program *a, const struct driver_program *b)
{
	return a->abilities == b->abilities && !strcmp(a->path, b->path);
}

/* By its name; NULL: there is none. */
const struct driver *driver_find(const char *name);

#endif
