/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/file.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include "fs/kept.h"
#include "fs/node.h"

#define HEAR_MAX 65536u

/* A read of a conversation that waits for what comes next. */
struct reader {
	struct kept kept;
	size_t size;
};

static bool may_open(const struct node *n, int flags)
{
	bool writes = (flags & O_ACCMODE) != O_RDONLY;

	/* The superuser's override isn't for files that nobody can write. */
	return !writes || node_writable(n);
}

int file_open(struct node *n, uid_t uid, gid_t gid, int flags, struct file **ret)
{
	struct file *f;
	int r;

	if (!may_open(n, flags))
		return -EACCES;
	f = calloc(1, sizeof *f);
	if (!f)
		return -ENOMEM;
	f->node = n;
	n->files++;
	f->fs = n->fs;
	f->uid = uid;
	f->gid = gid;
	f->fd = -1;
	f->talk = (flags & O_ACCMODE) == O_RDWR;
	list_append(&n->fs->files, &f->link);
	if (n->fork)
		n->fork->files++;
	list_init(&f->readers);
	list_init(&f->grown.link);
	list_init(&f->changed.link);
	r = n->row->kind->open ? n->row->kind->open(f) : 0;
	if (r < 0) {
		file_close(f);
		return r;
	}
	*ret = f;
	return 0;
}

static void poll_drop(struct file *f)
{
	if (f->poll)
		fuse_pollhandle_destroy(f->poll);
	f->poll = NULL;
}

static void leave_fork(struct fork *f)
{
	if (!f)
		return;
	f->files--;
	fork_give_back(f);
}

void file_close(struct file *f)
{
	if (f->node->row->kind->close)
		f->node->row->kind->close(f);
	list_remove(&f->link);
	file_op_detach(f);
	file_wait_detach(f);
	list_remove(&f->grown.link);
	list_remove(&f->changed.link);
	poll_drop(f);
	text_finish(&f->text);
	close_fd(&f->fd);
	f->node->files--;
	leave_fork(f->node->fork);
	free(f);
}

void reply_slice(fuse_req_t req, const char *data, size_t len, size_t size, off_t offset)
{
	if (offset < 0 || (uint64_t)offset >= len)
		fuse_reply_buf(req, NULL, 0);
	else
		fuse_reply_buf(req, data + offset, len - (size_t)offset < size ? len - (size_t)offset : size);
}

/* What the conversation has to say now. Returns 0: nothing yet; else *ret is the answer's bytes, their number or a negative errno; -ENODATA: it has ended. */
static ssize_t hear(struct file *f, size_t size, char **ret)
{
	size_t max = size < HEAR_MAX ? size : HEAR_MAX;

	*ret = malloc(max);
	return *ret ? f->node->row->kind->hear(f, *ret, max) : -ENOMEM;
}

static void reply_heard(fuse_req_t req, const char *buf, ssize_t n)
{
	if (n > 0 || n == -ENODATA)
		fuse_reply_buf(req, buf, n > 0 ? (size_t)n : 0);
	else
		fuse_reply_err(req, (int)-n);
}

static void reader_interrupted(struct kept *k)
{
	fuse_reply_err(kept_answer(k), EINTR);
	free(container_of(k, struct reader, kept));
}

static void keep_reader(struct file *f, fuse_req_t req, size_t size)
{
	struct reader *r = malloc(sizeof *r);

	if (!r) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	r->size = size;
	kept_init(&r->kept, f->fs, req, reader_interrupted);
	list_append(&f->readers, &r->kept.queue);
}

static void read_talk(struct file *f, fuse_req_t req, size_t size, bool nonblock)
{
	AUTO_FREE char *buf = NULL;
	ssize_t n = list_empty(&f->readers) ? hear(f, size, &buf) : 0;

	if (n)
		reply_heard(req, buf, n);
	else if (nonblock)
		fuse_reply_err(req, EAGAIN);
	else
		keep_reader(f, req, size);
}

void file_read(struct file *f, fuse_req_t req, size_t size, off_t offset, bool nonblock)
{
	if (f->talk && f->node->row->kind->hear)
		read_talk(f, req, size, nonblock);
	else
		f->node->row->kind->read(f, req, size, offset);
}

void file_write(struct file *f, fuse_req_t req, const char *data, size_t size, off_t offset)
{
	f->node->row->kind->write(f, req, data, size, offset);
}

/* One kept read may find what it waits for. */
static bool wake_reader(struct file *f, struct reader *r)
{
	AUTO_FREE char *buf = NULL;
	ssize_t n = hear(f, r->size, &buf);

	if (n == 0)
		return false;
	reply_heard(kept_answer(&r->kept), buf, n);
	free(r);
	return true;
}

void file_wake(struct file *f)
{
	struct reader *r;

	while ((r = list_first(&f->readers, struct reader, kept.queue)))
		if (!wake_reader(f, r))
			break;
	if (f->poll)
		fuse_lowlevel_notify_poll(f->poll);
	poll_drop(f);
}

static unsigned int talk_ready(struct file *f)
{
	return (f->node->row->kind->ready(f) ? POLLIN | POLLRDNORM : 0) | POLLOUT | POLLWRNORM;
}

void file_poll(struct file *f, fuse_req_t req, struct fuse_pollhandle *ph)
{
	const struct kind *kind = f->node->row->kind;
	unsigned int ready = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM;

	if (f->talk && kind->hear)
		ready = talk_ready(f);
	else if (kind->poll)
		ready = kind->poll(f) | POLLOUT | POLLWRNORM;
	if (ph) {
		poll_drop(f);
		f->poll = ph;
	}
	fuse_reply_poll(req, ready);
}
