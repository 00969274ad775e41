/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking over one VM: what its guest needs is open in the VMM, and taken from there; its pages are served again before anything is asked of the VMM, which may be waiting for one;
 * then it goes on, or stays paused, as its record has it. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/adopt.h"
#include "vmm/base/log.h"
#include "vmm/memory/overlay.h"
#include "vmm/memory/written.h"
#include "vmm/snapshot.h"

struct adoption {
	struct fork *fork;
	enum fork_state state; /* as it was, and is to be */
	bool turning;          /* the VMM has answered: the guest is being made to run or stand still */
	struct failure why;    /* what it answered that ends it, code 0: nothing */
};

/* Until the fork has it. */
struct taken {
	struct failure why; /* what could not be taken; code 0: all is there */
	struct process process;
	struct region ram;
	struct vm_memory memory;
	int pages, base;
	struct origin *origin;
};

static void taken_free(struct taken *t)
{
	process_finish(&t->process);
	region_finish(&t->ram);
	vm_memory_finish(&t->memory);
	close_fd(&t->pages);
	close_fd(&t->base);
	origin_unref(t->origin);
	free(t);
}

/* --- the memory ------------------------------------------------------------------------------------------------------------------- */

static int take_ram(struct taken *t, const struct vm_record *r, struct failure *why)
{
	int fd = open_files_take(&t->process, &r->ram, true);
	struct stat st;

	if (fd < 0)
		return fail_errno(why, -fd, "its memory can't be taken over");
	t->ram = (struct region){ r->private ? REGION_FILE : REGION_SHARED, r->recipe.ram_size, fd };
	if (fstat(fd, &st) || (uint64_t)st.st_size < r->recipe.ram_size)
		return fail(why, EIO, "its memory is not what it was");
	return 0;
}

/* The first has been made for serving pages and noticing writes, the other one to note what is written. */
static void take_uffds(struct taken *t, const struct vm_record *r)
{
	struct vm_memory *m = &t->memory;

	m->at = r->at;
	m->features = UFFD_FEATURES_MISSING | UFFD_FEATURES_CAPTURE;
	m->uffd = open_files_take_uffd(&t->process, m->features, UFFD_FEATURE_WP_ASYNC);
	if (m->uffd < 0) {
		m->features = UFFD_FEATURES_MISSING;
		m->uffd = open_files_take_uffd(&t->process, m->features, UFFD_FEATURE_WP_ASYNC);
	}
	m->error = m->uffd < 0 ? m->uffd : 0;
	m->notes = open_files_take_uffd(&t->process, UFFD_FEATURES_WRITTEN, 0);
	m->noted = r->noted && m->notes >= 0;
	m->uffd = m->uffd < 0 ? -1 : m->uffd;
	m->notes = m->notes < 0 ? -1 : m->notes;
}

static int take_base(struct taken *t, const struct vm_record *r, struct adopted_bases *bases, struct template **ret, struct failure *why)
{
	const struct file_id *id = r->private ? &r->ram : &r->origin.base;

	*ret = adopted_base_find(bases, id);
	if (*ret)
		return 0;
	if (!r->private && (t->base = open_files_take(&t->process, id, false)) < 0)
		return fail_errno(why, -t->base, "the memory under its snapshot");
	return adopted_base_add(bases, r->private ? t->ram.fd : t->base, r->recipe.ram_size, ret, why);
}

/* Its file may be written, by its mode, until it is whole. */
static bool is_whole(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && !(st.st_mode & 0200);
}

static int take_pages(struct taken *t, const struct vm_record *r, struct template *base, struct memory_source **ret, struct failure *why)
{
	if (t->pages < 0)
		return fail_errno(why, -t->pages, "what its missing pages come from can't be had any more");
	if (r->origin.captured && !is_whole(t->pages))
		return fail(why, EIO, "the snapshot that it comes from was never completed");
	if (r->origin.delta)
		return overlay_create(ret, t->pages, template_source(base), why);
	return memory_source_create_file(ret, t->pages, r->recipe.ram_size, NULL, why);
}

/* What of its origin is needed still: the memory. A private guest has all of its own but for what it is compared with. */
static int fill_origin(struct taken *t, struct origin *o, const struct vm_record *r, struct adopted_bases *bases, struct failure *why)
{
	struct template *base = NULL;
	struct memory_source *pages = NULL;
	bool mapped = r->private && strcmp(r->backend, "file");
	int e = snapshot_create(&o->snapshot, &r->recipe, "", 0, why);

	if (e == 0 && (mapped || r->origin.delta))
		e = take_base(t, r, bases, &base, why);
	if (e == 0 && r->private && !mapped && (o->snapshot->file = fcntl(t->ram.fd, F_DUPFD_CLOEXEC, 3)) < 0)
		e = fail_errno(why, errno, "its memory file");
	if (e == 0 && (!r->private || r->origin.delta)) {
		e = take_pages(t, r, base, &pages, why);
		if (e < 0 && !r->origin.lazy) { /* it has them all, and can't be compared any more */
			log_warn("%s", why->text);
			e = 0;
		}
	}
	if (e < 0)
		return e;
	o->template = mapped ? template_ref(base) : NULL;
	o->snapshot->delta = r->origin.delta;
	o->snapshot->template = r->origin.delta ? template_ref(base) : NULL;
	o->memory = o->snapshot->memory = pages;
	if (r->origin.delta)
		o->snapshot->pages = steal_fd(&t->pages);
	else if (!r->private)
		o->snapshot->file = steal_fd(&t->pages);
	return 0;
}

static int take_origin(struct taken *t, const struct fork *f, const struct vm_record *r, struct adopted_bases *bases, struct failure *why)
{
	struct origin *o;

	if (!r->origin.present)
		return 0;
	o = t->origin = origin_create();
	if (!o)
		return fail(why, ENOMEM, "no memory");
	o->driver = f->driver;
	o->program = r->program;
	o->backend = origin_backend(r->backend);
	o->region = r->private ? REGION_FILE : REGION_SHARED;
	o->fill = r->origin.fill;
	o->captured = r->origin.captured;
	return fill_origin(t, o, r, bases, why);
}

/* --- the fork --------------------------------------------------------------------------------------------------------------------- */

static void adopted(struct forks *all)
{
	if (!--all->adopting)
		signal_emit(&all->listeners);
}

/* One that was removed has been told as that; its name may be another's. */
static void tell(struct fork *f, struct event_facts facts)
{
	if (!f->removed)
		fork_event(f, facts);
}

static void end_task(struct fork *f)
{
	struct forks *all = f->all;

	free(f->task_data);
	f->task = NULL;
	f->task_data = NULL;
	adopted(all);
}

static void on_answered(struct fork *f, const struct failure *why)
{
	struct adoption *a = f->task_data;
	enum fork_state state = a->state;

	if (why) {
		a->why = *why;
		fail_within(&a->why, "fork %s: its VM can't be taken over, and is ended", f->id);
		f->driver->kill(f->vm);
		return;
	}
	if (!a->turning) {
		a->turning = true;
		fork_request(f, state == FORK_RUNNING ? f->driver->resume : f->driver->pause);
		return;
	}
	tell(f, (struct event_facts){ .what = "adopted" });
	f->state = state;
	end_task(f);
	if (f->removed)
		fork_idle(f);
	else
		fork_changed(f);
}

static void on_exited(struct fork *f, const siginfo_t *how)
{
	struct failure why = ((struct adoption *)f->task_data)->why;

	fork_ref(f);
	end_task(f);
	fork_vm_ended(f, how);
	if (why.code && !f->removed)
		fork_set_error(f, &why); /* that says more than how it ended */
	fork_unref(f);
}

static void on_removed(struct fork *f)
{
	f->driver->kill(f->vm);
}

static const struct task adoption_task = {
	.name = "the takeover of its VM from the former daemon",
	.answered = on_answered,
	.exited = on_exited,
	.removed = on_removed,
};

static struct vm_spec make_spec(const struct fork *f)
{
	return (struct vm_spec){
		.event = f->all->event,
		.jobs = f->all->jobs,
		.id = f->id,
		.program = &f->program,
		.dir = f->dir,
		.recipe = &f->recipe,
		.ram = &f->ram,
		.drop = f->vm_uid,
		.uid = f->vm_uid,
		.gid = f->vm_uid,
		.netns = -1,
		.console = f->console.fd,
		.log = f->log.fd,
		.kernel = -1,
		.initrd = -1,
		.args = "",
	};
}

static int open_record(struct fork *f, struct record *record, const char *name)
{
	int fd = openat(f->dir, name, O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	return fd < 0 ? -errno : record_open(record, f->all->event, fd);
}

static int open_records(struct fork *f)
{
	int r = open_record(f, &f->console, "console.txt");

	return r < 0 ? r : open_record(f, &f->log, "log.txt");
}

static void describe(struct fork *f, const struct vm_record *r)
{
	f->program = r->program;
	f->recipe = r->recipe;
	f->vm_uid = r->uid;
	memcpy(f->group, r->group, sizeof f->group);
	f->from_boot = r->from_boot;
	snprintf(f->ram_name, sizeof f->ram_name, "%s", r->ram_name);
	snprintf(f->backend, sizeof f->backend, "%s", r->backend);
}

/* A capture that was under way may have left protected what the guest waits to write, and a fault that the former daemon had heard of comes anew only when it is woken. */
static int serve(struct fork *f, const struct vm_record *r, struct failure *why)
{
	const struct vm_memory *m = &f->vm->memory;
	struct paging_options o = {
		.jobs = f->all->jobs, .memory = m, .size = f->ram.size, .fill = r->origin.fill == FILL_BACKGROUND, .adopt = true
	};
	int e;

	if (r->origin.lazy) {
		o.source = f->origin->memory;
		e = paging_create(&f->paging, &o, why);
		if (e == 0)
			paging_watch(f->paging, fork_memory_broke, f);
		return e;
	}
	if (m->uffd < 0 || m->noted)
		return 0;
	uffd_writeprotect(m->uffd, m->at, f->ram.size, false);
	uffd_wake(m->uffd, m->at, f->ram.size);
	return 0;
}

/* The fork has what was taken, whatever becomes of the VM now. */
static int connect_vm(struct fork *f, struct taken *t, const struct vm_record *r, struct failure *why)
{
	struct vm_spec spec = make_spec(f);
	int e = f->driver->adopt(&f->vm, &spec, &t->process, &fork_watcher, f, why);

	if (e < 0)
		return e;
	t->process = (struct process){ .pidfd = -1 };
	f->ram = t->ram;
	t->ram = (struct region){ .fd = -1 };
	f->vm->memory = t->memory;
	t->memory = VM_MEMORY_UNKNOWN;
	f->origin = steal_ptr(&t->origin);
	if (f->origin)
		origin_kept(f->origin, &f->vm->kept[0], &f->vm->kept[1]);
	f->vm->has_disk = r->has_disk;
	f->vm->vsock = *r->vsock ? f->vsock : NULL;
	snprintf(f->vsock, sizeof f->vsock, "%s", r->vsock);
	snprintf(f->vm->generation, sizeof f->vm->generation, "%s", r->generation);
	return 0;
}

static void ended(struct fork *f)
{
	snprintf(f->exit, sizeof f->exit, "ended while no daemon was there, how is unknown");
	tell(f, (struct event_facts){ .what = "exited" });
	fork_set_state(f, FORK_EXITED);
}

static void lost(struct fork *f, struct failure *why)
{
	fail_within(why, "fork %s: its VM can't be taken over, and is ended", f->id);
	snprintf(f->exit, sizeof f->exit, "was killed by the daemon: it can't be taken over");
	f->vm_uid = 0;
	group_remove(f->all, f->group);
	fork_set_error(f, why);
	tell(f, (struct event_facts){ .what = "failed", .code = why->code, .error = why->text });
	fork_set_state(f, FORK_FAILED);
}

static int take(struct taken *t, struct fork *f, const struct vm_record *r, struct failure *why)
{
	int e;

	f->driver = driver_find(r->driver);
	if (!f->driver)
		return fail(why, ENODEV, "this forkfs has no driver %.16s", r->driver);
	e = take_ram(t, r, why);
	if (e < 0)
		return e;
	take_uffds(t, r);
	if (r->origin.pages.ino)
		t->pages = open_files_take(&t->process, &r->origin.pages, r->origin.captured);
	e = open_records(f);
	return e < 0 ? fail_errno(why, -e, "its console and log") : 0;
}

struct taken *adopt_vm_take(struct fork *f, const struct vm_record *r)
{
	struct taken *t = calloc(1, sizeof *t);
	int e = t ? process_adopt(&t->process, r->pid, r->start_time) : -ESRCH;

	if (e == -ESRCH) {
		free(t);
		open_records(f);
		ended(f);
		return NULL;
	}
	t->ram.fd = t->base = -1;
	t->pages = -ENOENT;
	t->memory = VM_MEMORY_UNKNOWN;
	if (e < 0) {
		t->process.pidfd = -1;
		fail_errno(&t->why, -e, "its process");
	} else {
		describe(f, r);
		take(t, f, r, &t->why);
	}
	return t;
}

bool adopt_vm_ready(const struct taken *t, const struct vm_record *r)
{
	return t->why.code || !r->origin.captured || t->pages < 0 || is_whole(t->pages);
}

/* As capture.c has it. */
static struct memory_source *source_under(const struct taken *t, const struct vm_record *r, bool delta)
{
	if (!t->origin)
		return NULL;
	if (!r->private)
		return r->origin.lazy ? t->origin->memory : NULL;
	return delta && t->origin->template ? template_source(t->origin->template) : NULL;
}

/* Before anything is unprotected. */
static void finish_captures(const struct fork *f, const struct taken *t, struct fork_record *r)
{
	struct region_view view;
	struct failure why;

	for (size_t i = 0; i < r->shot_count; i++) {
		struct shot_record *s = &r->shots[i];

		if (!s->described || s->complete)
			continue;
		if (region_view_open(&view, &t->ram, r->vm.private ? t->process.pid : 0, &why) < 0)
			continue;
		view.under = source_under(t, &r->vm, s->delta);
		adopt_capture(f, s, &view, t->process.pid, t->memory.at);
		region_view_finish(&view);
	}
}

static int begin(struct fork *f, struct taken *t, struct fork_record *r, struct adopted_bases *bases, struct failure *why)
{
	int e;

	if (t->why.code) {
		*why = t->why;
		return -why->code;
	}
	e = take_origin(t, f, &r->vm, bases, why);
	if (e < 0)
		return e;
	finish_captures(f, t, r);
	return connect_vm(f, t, &r->vm, why);
}

void adopt_vm(struct fork *f, struct taken *t, struct fork_record *r, struct adopted_bases *bases)
{
	struct adoption *a = calloc(1, sizeof *a);
	struct failure why;
	int e = a ? begin(f, t, r, bases, &why) : fail(&why, ENOMEM, "no memory");

	if (e < 0) {
		process_kill(&t->process);
		taken_free(t);
		lost(f, &why);
		free(a);
		return;
	}
	taken_free(t);
	*a = (struct adoption){ .fork = f, .state = r->state };
	f->state = r->state;
	f->task = &adoption_task;
	f->task_data = a;
	f->all->adopting++;
	fork_deadline_start(f);
	if (serve(f, &r->vm, &why) < 0)
		fork_memory_broke(f, &why);
}
