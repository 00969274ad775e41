/* SPDX-License-Identifier: Apache-2.0
 *
 * What the texts of the tree say. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fs/files.h"
#include "vmm/capture.h"

void render_nothing(const struct node *n, uid_t reader, struct text *t)
{
	(void)n;
	(void)reader;
	(void)t;
}

void render_metrics(const struct node *n, uid_t reader, struct text *t)
{
	(void)reader;
	metrics_print(n->fs->forks, t);
}

void render_root_error(const struct node *n, uid_t reader, struct text *t)
{
	const char *error = fs_error(n->fs, reader);

	if (*error)
		text_printf(t, "%s\n", error);
}

void render_config(const struct node *n, uid_t reader, struct text *t)
{
	const struct config *c = n->fork ? &n->fork->config : &n->fs->forks->config;

	(void)reader;
	text_printf(t, "%s\n", config_get(c, n->key));
}

void render_restore(const struct node *n, uid_t reader, struct text *t)
{
	(void)reader;
	if (n->fork->vm && n->fork->snapshot[0])
		text_printf(t, "%s\n", n->fork->snapshot);
}

void render_state(const struct node *n, uid_t reader, struct text *t)
{
	(void)reader;
	text_printf(t, "%s\n", fork_state_name(n->fork->state));
}

void render_error(const struct node *n, uid_t reader, struct text *t)
{
	(void)reader;
	if (n->fork->error[0])
		text_printf(t, "%s\n", n->fork->error);
}

void render_shot_state(const struct node *n, uid_t reader, struct text *t)
{
	(void)reader;
	text_printf(t, "%s\n", shot_state_name(n->shot->state));
}

void print_end(const struct fork *f, struct text *t)
{
	if (f->removed)
		text_puts(t, "removed\n");
	else if (f->state == FORK_EXITED || f->state == FORK_FAILED)
		text_printf(t, "%s%s%s\n", fork_state_name(f->state), f->exit[0] ? ": the VMM " : "", f->exit);
}

void render_wait(const struct node *n, uid_t reader, struct text *t)
{
	(void)reader;
	print_end(n->fork, t);
}

static void print_time(struct text *t, const char *key, const struct timespec *at)
{
	char text[40];
	struct tm tm;

	gmtime_r(&at->tv_sec, &tm);
	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
	text_printf(t, "%s:\t%s\n", key, text);
}

static void print_kb(struct text *t, const char *key, uint64_t bytes)
{
	text_printf(t, "%s:\t%12llu kB\n", key, (unsigned long long)(bytes >> 10));
}

static uint64_t private_bytes(const struct fork *f)
{
	struct region_view view;
	int64_t bytes = -1;

	if (f->ram.kind == REGION_FILE && region_view_open(&view, &f->ram, f->vm->process.pid, NULL) == 0) {
		view.guarded = f->capture;
		bytes = region_view_private(&view);
		region_view_finish(&view);
	}
	return bytes < 0 ? 0 : (uint64_t)bytes;
}

static void print_memory(const struct fork *f, struct text *t)
{
	uint64_t own;

	print_kb(t, "MemTotal", f->ram.size);
	if (f->ram.kind == REGION_SHARED) {
		print_kb(t, "MemFilled", fork_memory(f));
		return;
	}
	own = private_bytes(f);
	print_kb(t, "MemPrivate", own);
	if (!f->origin || !f->origin->snapshot->delta) /* else some were placed: dirty tells which have changed */
		print_kb(t, "MemDirty", own);
}

/* How the guest's pages come to be there, and whether a snapshot of it is live. */
static void print_paging(const struct fork *f, struct text *t)
{
	static const char *const names[] = { [FILL_EAGER] = "eager", [FILL_ONDEMAND] = "ondemand", [FILL_BACKGROUND] = "background" };
	struct pager_stats stats;

	if (f->ram.kind == REGION_SHARED && f->origin)
		text_printf(t, "Fill:\t%s\n", f->paging && paging_is_lazy(f->paging) ? names[f->origin->fill] : names[FILL_EAGER]);
	if (f->paging && paging_is_lazy(f->paging)) {
		paging_stats(f->paging, &stats);
		text_printf(t, "Faults:\t%12llu\n", (unsigned long long)stats.faults);
	}
	if (f->vm->has_disk)
		text_puts(t, "Snapshots:\tnone: its guest writes a disk of its own\n");
	else if (f->not_live[0])
		text_printf(t, "Snapshots:\tstop-and-copy: %s\n", f->not_live);
	else if (f->vm->memory.uffd < 0)
		text_printf(t, "Snapshots:\tstop-and-copy: the VMM has no userfaultfd\n");
	else
		text_puts(t, "Snapshots:\tlive\n");
}

static void print_vsock(const struct fork *f, struct text *t)
{
	char link[32], dir[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", f->dir);
	n = readlink(link, dir, sizeof dir - 1);
	if (n > 0)
		text_printf(t, "Vsock:\t%.*s/%s\n", (int)n, dir, f->vm->vsock);
}

static void print_vm(const struct fork *f, struct text *t)
{
	text_printf(t, "Pid:\t%10d\n", f->vm->process.pid);
	text_printf(t, "Vmm:\t%s%s%s\n", f->driver->name, f->recipe.driver_version[0] ? " " : "", f->recipe.driver_version);
	if (f->recipe.accel[0])
		text_printf(t, "Accel:\t%s\n", f->recipe.accel);
	text_printf(t, "Machine:\t%s\n", f->recipe.machine);
	if (f->snapshot[0])
		text_printf(t, "Snapshot:\t%s\n", f->snapshot);
	text_printf(t, "MemoryBackend:\t%s\n", f->backend);
	if (f->ram.kind == REGION_SHARED)
		text_printf(t, "Memfd:\tforkfs:%s\n", f->ram_name);
	text_printf(t, "Uid:\t%10u\n", f->vm_uid ?: geteuid());
	print_memory(f, t);
	print_paging(f, t);
}

void render_status(const struct node *n, uid_t reader, struct text *t)
{
	const struct fork *f = n->fork;
	bool vm = f->vm && f->vm->process.pid && f->ram.kind != REGION_NONE;

	(void)reader;
	text_printf(t, "Id:\t%s\nState:\t%s\n", f->id, fork_state_name(f->state));
	if (vm)
		print_vm(f, t);
	if (f->restore_ms >= 0)
		text_printf(t, "RestoreTime:\t%14.3f ms\n", f->restore_ms);
	if (f->started.tv_sec)
		print_time(t, "Started", &f->started);
	if (vm && f->vm->vsock)
		print_vsock(f, t);
	if (vm && f->vm->generation[0])
		text_printf(t, "Generation:\t%s\n", f->vm->generation);
	if (f->exit[0])
		text_printf(t, "Exit:\t%s\n", f->exit);
}

void render_maps(const struct node *n, uid_t reader, struct text *t)
{
	const struct fork *f = n->fork;
	AUTO_CLOSE int fd = -1;
	char path[32], buf[4096];
	ssize_t k;

	(void)reader;
	if (!f->vm || !f->vm->process.pid)
		return;
	snprintf(path, sizeof path, "/proc/%d/maps", f->vm->process.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && (k = read(fd, buf, sizeof buf)) > 0)
		text_append(t, buf, (size_t)k);
}

static const char *mode_text(const struct row *row)
{
	switch (row->mode & 0666) {
	case 0444:
	case 0400:
		return "r-";
	case 0222:
	case 0200:
		return "-w";
	default:
		return "rw";
	}
}

static void help_rows(enum place place, const char *indent, struct text *t)
{
	for (size_t i = 0; i < table_rows; i++) {
		const struct row *row = &table[i];
		bool dir = S_ISDIR(row->mode);

		if (row->place != place || !*row->name)
			continue;
		text_printf(t, "%s%-13s %s  %s\n", indent, row->name, dir ? "d " : mode_text(row), row->help);
	}
}

static void help_keys(size_t from, size_t to, struct text *t)
{
	for (size_t i = from; i < to; i++)
		text_printf(t, "        %-16s%s (%s)\n", config_keys[i].name, config_keys[i].help, config_keys[i].fallback);
}

void render_help(const struct node *n, uid_t reader, struct text *t)
{
	(void)n;
	(void)reader;
	text_puts(t, "forkfs " FORKFS_VERSION ": directories that are forks of microVMs\n\n"
		     "A line written to a file is a command; it has taken effect when the write returns. When it fails, the errno says\n"
		     "how and the file `error` why. A file opened read-only gives what there is and ends; one opened read-write is a\n"
		     "conversation: a read waits for what comes next. poll(2) sees files grow, inotify doesn't.\n\n"
		     "/\n");
	help_rows(PLACE_ROOT, "    ", t);
	text_puts(t, "    ID            d   a fork: mkdir makes it, mv renames it, rmdir destroys the VM and gives everything back\n");
	help_rows(PLACE_FORK, "        ", t);
	text_puts(t, "            NAME          d   a snapshot: mkdir takes it, rmdir drops it; its path can be written to another fork's restore\n");
	help_rows(PLACE_SHOT, "                ", t);
	text_puts(t, "\nconfig/ of a fork, and in the root the defaults for new ones\n");
	help_keys(0, CONFIG_FORK_COUNT, t);
	text_puts(t, "\nconfig/ of the root alone\n");
	help_keys(CONFIG_FORK_COUNT, CONFIG_COUNT, t);
}
