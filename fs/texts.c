/* SPDX-License-Identifier: Apache-2.0
 *
 * Files that are rendered, and the commands written into them. One open sees one rendering; a read at offset 0 renders anew. */
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/file.h"
#include "fs/files.h"
#include "fs/kept.h"
#include "fs/node.h"
#include "vmm/doctor.h"

static void set_size(struct stat *st, size_t size)
{
	st->st_size = (off_t)size;
	st->st_blocks = (st->st_size + 511) / 512;
}

static void text_stat(const struct node *n, struct stat *st)
{
	AUTO_TEXT struct text t = { 0 };

	n->row->render(n, n->fs->asker, &t);
	set_size(st, t.len);
}

static void text_read(struct file *f, fuse_req_t req, size_t size, off_t offset)
{
	if (offset == 0) {
		text_finish(&f->text);
		f->node->row->render(f->node, f->uid, &f->text);
		f->state = f->node->fork ? f->node->fork->state : FORK_EMPTY;
	}
	if (f->text.failed)
		fuse_reply_err(req, ENOMEM);
	else
		reply_slice(req, f->text.data, f->text.len, size, offset);
}

static void text_write(struct file *f, fuse_req_t req, const char *data, size_t size, off_t offset)
{
	struct command c;
	struct failure why;

	(void)offset;
	if (command_parse(&c, data, size, &why) < 0) {
		fail_within(&why, "%s", f->node->key >= 0 ? config_keys[f->node->key].name : f->node->row->name);
		refuse(req, f, &why);
		return;
	}
	f->node->row->command(f, req, &c, size);
}

const struct kind text_kind = {
	.stat = text_stat,
	.read = text_read,
	.write = text_write,
};

/* What a conversation has to say stands in f->text; f->ended: nothing comes after it. */
static ssize_t answer_hear(struct file *f, char *buf, size_t size)
{
	size_t left = f->text.len - f->said;
	size_t n = left < size ? left : size;

	if (!left)
		return f->ended ? -ENODATA : 0;
	memcpy(buf, f->text.data + f->said, n);
	f->said += n;
	return (ssize_t)n;
}

static bool answer_ready(struct file *f)
{
	return f->said < f->text.len || f->ended;
}

/* The conversation begins to say something new. */
static void say_anew(struct file *f)
{
	text_finish(&f->text);
	f->said = 0;
	f->ended = false;
}

/* state: a conversation tells the state as it is, and then each one that it becomes. */
static void on_state(struct listener *l)
{
	struct file *f = container_of(l, struct file, changed);
	const struct fork *fork = f->node->fork;

	if (fork->state != f->state && f->text.len - f->said < 4096)
		text_printf(&f->text, "%s\n", fork_state_name(fork->state));
	f->state = fork->state;
	f->ended = fork->removed;
	file_wake(f);
}

static int state_open(struct file *f)
{
	f->state = f->node->fork->state;
	f->ended = f->node->fork->removed;
	if (f->talk)
		text_printf(&f->text, "%s\n", fork_state_name(f->state));
	listener_init(&f->changed, on_state);
	if (f->talk)
		list_append(&f->node->fork->listeners, &f->changed.link);
	return f->text.failed ? -ENOMEM : 0;
}

static void on_state_read_only(struct listener *l)
{
	file_wake(container_of(l, struct file, changed));
}

static int state_open_any(struct file *f)
{
	int r = state_open(f);

	if (r == 0 && !f->talk) {
		listener_init(&f->changed, on_state_read_only);
		list_append(&f->node->fork->listeners, &f->changed.link);
	}
	return r;
}

/* As sysfs does: a text is always readable, and POLLPRI says that it is another one than was read. */
static unsigned int state_poll(struct file *f)
{
	bool other = f->state != f->node->fork->state || f->node->fork->removed;

	return POLLIN | POLLRDNORM | (other ? POLLPRI | POLLERR : 0);
}

const struct kind state_kind = {
	.stat = text_stat,
	.open = state_open_any,
	.read = text_read,
	.write = text_write,
	.hear = answer_hear,
	.ready = answer_ready,
	.poll = state_poll,
};

/* clone: the first read makes a fork and says its id. */
static ssize_t clone_hear(struct file *f, char *buf, size_t size)
{
	struct failure why;
	struct fork *fork;
	int r;

	if (!f->began) {
		r = fork_clone(&fork, f->fs->forks, f->uid, f->gid, &why);
		if (r < 0) {
			fs_set_error(f->fs, f->uid, &why);
			return r;
		}
		f->began = true;
		text_printf(&f->text, "%s\n", fork->id);
		f->ended = true;
	}
	return answer_hear(f, buf, size);
}

static bool always_ready(struct file *f)
{
	(void)f;
	return true;
}

const struct kind clone_kind = {
	.stat = text_stat,
	.read = text_read,
	.write = text_write,
	.hear = clone_hear,
	.ready = always_ready,
};

const struct kind many_kind = {
	.stat = text_stat,
	.read = text_read,
	.write = text_write,
	.hear = answer_hear,
	.ready = answer_ready,
};

/* wait: how the wait that was written ended; without one, how the VM ended. */
static bool end_of_vm(struct file *f)
{
	const struct fork *fork = f->node->fork;

	if (f->began || f->ended)
		return f->ended;
	if (fork->state != FORK_EXITED && fork->state != FORK_FAILED && !fork->removed)
		return false;
	print_end(fork, &f->text);
	f->ended = true;
	return true;
}

static ssize_t wait_hear(struct file *f, char *buf, size_t size)
{
	end_of_vm(f);
	return answer_hear(f, buf, size);
}

static bool wait_ready(struct file *f)
{
	return end_of_vm(f) || answer_ready(f);
}

static int wait_open(struct file *f)
{
	listener_init(&f->changed, on_state_read_only);
	list_append(&f->node->fork->listeners, &f->changed.link);
	return 0;
}

const struct kind wait_kind = {
	.stat = text_stat,
	.open = wait_open,
	.read = text_read,
	.write = text_write,
	.hear = wait_hear,
	.ready = wait_ready,
};

void file_say_begin(struct file *f)
{
	say_anew(f);
	f->began = true;
}

/* doctor is rendered by a worker, for its checks take a while; the open waits for it. */
struct checkup {
	struct job job;
	struct fs *fs;
	struct config config;
	struct text text;
	void (*done)(void *data);
	void *data;
};

static void checkup_run(struct job *job)
{
	struct checkup *c = container_of(job, struct checkup, job);

	doctor_print(&c->config, &c->text);
}

static void checkup_done(struct job *job)
{
	struct checkup *c = container_of(job, struct checkup, job);
	struct fs *fs = c->fs;

	if (!c->text.failed) {
		text_finish(&fs->doctor);
		fs->doctor = c->text;
		c->text = (struct text){ 0 };
	}
	text_finish(&c->text);
	config_finish(&c->config);
	if (c->done)
		c->done(c->data);
	free(c);
}

int doctor_refresh(struct fs *fs, void (*done)(void *data), void *data)
{
	struct checkup *c = calloc(1, sizeof *c);

	if (!c || config_copy(&c->config, &fs->forks->config, CONFIG_COUNT) < 0) {
		free(c);
		return -ENOMEM;
	}
	c->job.run = checkup_run;
	c->job.done = checkup_done;
	c->fs = fs;
	c->done = done;
	c->data = data;
	jobs_submit(fs->forks->jobs, &c->job);
	return 0;
}

static void doctor_stat(const struct node *n, struct stat *st)
{
	set_size(st, n->fs->doctor.len);
}

static int doctor_open(struct file *f)
{
	text_append(&f->text, f->fs->doctor.data, f->fs->doctor.len);
	return f->text.failed ? -ENOMEM : 0;
}

static void doctor_read(struct file *f, fuse_req_t req, size_t size, off_t offset)
{
	reply_slice(req, f->text.data, f->text.len, size, offset);
}

const struct kind doctor_kind = {
	.stat = doctor_stat,
	.open = doctor_open,
	.read = doctor_read,
};
