/* SPDX-License-Identifier: Apache-2.0
 *
 * Files that grow: console, log, events. Read-only they give the record so far; a conversation begins with what comes after its open. */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/file.h"
#include "fs/files.h"
#include "fs/kept.h"

#define CHUNK (1u << 20)

static struct record *console_of(const struct node *n)
{
	return &n->fork->console;
}

static struct record *log_of(const struct node *n)
{
	return &n->fork->log;
}

static void record_stat(const struct record *r, struct stat *st)
{
	struct stat own;

	st->st_size = (off_t)record_size(r);
	st->st_blocks = (st->st_size + 511) / 512;
	if (r->fd >= 0 && !fstat(r->fd, &own))
		st->st_mtim = own.st_mtim;
}

static void console_stat(const struct node *n, struct stat *st)
{
	record_stat(console_of(n), st);
}

static void log_stat(const struct node *n, struct stat *st)
{
	record_stat(log_of(n), st);
}

static void on_grown(struct listener *l)
{
	file_wake(container_of(l, struct file, grown));
}

static void on_fork_changed(struct listener *l)
{
	struct file *f = container_of(l, struct file, changed);

	if (f->node->fork->removed)
		file_wake(f);
}

static int watch_record(struct file *f, struct record *r)
{
	listener_init(&f->grown, on_grown);
	list_append(&r->grown, &f->grown.link);
	listener_init(&f->changed, on_fork_changed);
	list_append(&f->node->fork->listeners, &f->changed.link);
	f->cursor = r->end;
	return 0;
}

static int console_open(struct file *f)
{
	return watch_record(f, console_of(f->node));
}

static int log_open(struct file *f)
{
	return watch_record(f, log_of(f->node));
}

static void read_record(struct file *f, const struct record *r, fuse_req_t req, size_t size, off_t offset)
{
	AUTO_FREE char *buf = malloc(size < CHUNK ? size : CHUNK);
	ssize_t n = buf ? record_read(r, buf, size < CHUNK ? size : CHUNK, (uint64_t)offset) : -ENOMEM;

	if (n < 0) {
		fuse_reply_err(req, (int)-n);
		return;
	}
	f->seen = (uint64_t)offset + (uint64_t)n;
	fuse_reply_buf(req, buf, (size_t)n);
}

static void console_read(struct file *f, fuse_req_t req, size_t size, off_t offset)
{
	read_record(f, console_of(f->node), req, size, offset);
}

static void log_read(struct file *f, fuse_req_t req, size_t size, off_t offset)
{
	read_record(f, log_of(f->node), req, size, offset);
}

/* The cursor counts the file's own bytes; what was dropped before it was heard is skipped, and a record that began anew is heard from its start. */
static void mend_cursor(struct file *f, const struct record *r)
{
	if (f->cursor < r->start || f->cursor > r->end)
		f->cursor = r->start;
}

static ssize_t console_hear(struct file *f, char *buf, size_t size)
{
	const struct record *r = console_of(f->node);
	ssize_t n;

	mend_cursor(f, r);
	n = record_read(r, buf, size, f->cursor - r->start);
	if (n > 0)
		f->cursor += (uint64_t)n;
	return n == 0 && f->node->fork->removed ? -ENODATA : n;
}

static bool console_ready(struct file *f)
{
	mend_cursor(f, console_of(f->node));
	return f->cursor < console_of(f->node)->end || f->node->fork->removed;
}

static unsigned int grown_since(const struct file *f, uint64_t size)
{
	return f->seen != size ? POLLIN | POLLRDNORM : 0;
}

static unsigned int console_poll(struct file *f)
{
	return grown_since(f, record_size(console_of(f->node)));
}

static unsigned int log_poll(struct file *f)
{
	return grown_since(f, record_size(log_of(f->node)));
}

/* A write into the console that waits until the guest takes it. */
struct typing {
	struct kept kept;
	struct listener typable;
	struct fork *fork;
	size_t size;
	char data[];
};

static void typing_answer(struct typing *t, ssize_t n)
{
	fuse_req_t req = kept_answer(&t->kept);

	list_remove(&t->typable.link);
	fork_unref(t->fork);
	free(t);
	if (n > 0)
		fuse_reply_write(req, (size_t)n);
	else
		fuse_reply_err(req, (int)-n);
}

static void typing_interrupted(struct kept *k)
{
	typing_answer(container_of(k, struct typing, kept), -EINTR);
}

static void on_typable(struct listener *l)
{
	struct typing *t = container_of(l, struct typing, typable);
	ssize_t n = fork_type(t->fork, t->data, t->size);

	if (n != -EAGAIN)
		typing_answer(t, n);
}

static void keep_typing(struct file *f, fuse_req_t req, const char *data, size_t size)
{
	struct typing *t = malloc(sizeof *t + size);

	if (!t) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	t->fork = fork_ref(f->node->fork);
	t->size = size;
	memcpy(t->data, data, size);
	kept_init(&t->kept, f->fs, req, typing_interrupted);
	listener_init(&t->typable, on_typable);
	list_append(&t->fork->typable, &t->typable.link);
}

static void console_write(struct file *f, fuse_req_t req, const char *data, size_t size, off_t offset)
{
	struct fork *fork = f->node->fork;
	ssize_t n = fork_type(fork, data, size);
	struct failure why;

	(void)offset;
	if (n > 0) {
		fuse_reply_write(req, (size_t)n);
	} else if (n == -EAGAIN && f->nonblock) {
		fuse_reply_err(req, EAGAIN);
	} else if (n == -EAGAIN) {
		keep_typing(f, req, data, size);
	} else {
		fail(&why, (int)-n, "fork %s: is %s: nobody is at its console", fork->id, fork_state_name(fork->state));
		reply_failure(req, f->fs, fork, &why);
	}
}

const struct kind console_kind = {
	.stat = console_stat,
	.open = console_open,
	.read = console_read,
	.write = console_write,
	.hear = console_hear,
	.ready = console_ready,
	.poll = console_poll,
};

const struct kind log_kind = {
	.stat = log_stat,
	.open = log_open,
	.read = log_read,
	.poll = log_poll,
};

static uid_t reader_of(const struct fs *fs, uid_t uid)
{
	return uid == 0 || uid == fs->forks->owner ? EVENTS_ALL : uid;
}

/* Everybody has a record of his own forks, and its size is what he reads. */
static void events_stat(const struct node *n, struct stat *st)
{
	const struct events *e = &n->fs->forks->events;

	st->st_size = (off_t)events_size(e, reader_of(n->fs, n->fs->asker));
	st->st_blocks = (st->st_size + 511) / 512;
}

static int events_open(struct file *f)
{
	listener_init(&f->grown, on_grown);
	list_append(&f->fs->forks->events.grown, &f->grown.link);
	f->event = (struct events_cursor){ .number = f->fs->forks->events.next };
	return 0;
}

static void events_file_read(struct file *f, fuse_req_t req, size_t size, off_t offset)
{
	size_t max = size < CHUNK ? size : CHUNK;
	AUTO_FREE char *buf = malloc(max);
	size_t n;

	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	n = events_read(&f->fs->forks->events, reader_of(f->fs, f->uid), buf, max, (uint64_t)offset);
	f->seen = (uint64_t)offset + n;
	fuse_reply_buf(req, buf, n);
}

static ssize_t events_hear(struct file *f, char *buf, size_t size)
{
	return (ssize_t)events_follow(&f->fs->forks->events, reader_of(f->fs, f->uid), &f->event, buf, size);
}

static bool events_ready(struct file *f)
{
	struct events_cursor look = f->event;
	char byte;

	return events_follow(&f->fs->forks->events, reader_of(f->fs, f->uid), &look, &byte, 1) > 0;
}

static unsigned int events_poll(struct file *f)
{
	return grown_since(f, events_size(&f->fs->forks->events, reader_of(f->fs, f->uid)));
}

static void events_write(struct file *f, fuse_req_t req, const char *data, size_t size, off_t offset)
{
	struct failure why;

	(void)data;
	(void)size;
	(void)offset;
	fail(&why, EINVAL, "events takes no commands: a read-write open only follows it");
	refuse(req, f, &why);
}

const struct kind events_kind = {
	.stat = events_stat,
	.open = events_open,
	.read = events_file_read,
	.write = events_write,
	.hear = events_hear,
	.ready = events_ready,
	.poll = events_poll,
};
