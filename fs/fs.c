/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/fs.h"

#include <search.h>
#include <stdio.h>

#include "fs/file.h"
#include "fs/kept.h"
#include "fs/node.h"

#define ERRORS_MAX 256 /* users whose last failure is kept */

struct user_error {
	struct list link;
	uid_t uid;
	char text[sizeof((struct failure *)0)->text];
};

static void on_forks_changed(struct listener *l)
{
	struct fs *fs = container_of(l, struct fs, forks_changed);

	clock_gettime(CLOCK_REALTIME, &fs->changed);
}

int fs_create(struct fs **ret, struct forks *forks, bool allow_other)
{
	struct fs *fs = calloc(1, sizeof *fs);
	int r;

	if (!fs)
		return -ENOMEM;
	fs->forks = forks;
	fs->event = forks->event;
	fs->allow_other = allow_other;
	list_init(&fs->kept);
	list_init(&fs->files);
	list_init(&fs->all_nodes);
	list_init(&fs->errors);
	clock_gettime(CLOCK_REALTIME, &fs->changed);
	r = node_create_root(fs);
	if (r < 0) {
		free(fs);
		return r;
	}
	listener_init(&fs->forks_changed, on_forks_changed);
	list_append(&forks->listeners, &fs->forks_changed.link);
	*ret = fs;
	return 0;
}

void fs_end(struct fs *fs)
{
	struct list now;
	struct kept *k;
	struct file *f;


	list_take(&now, &fs->kept);
	while ((k = list_first(&now, struct kept, link))) {
		list_remove(&k->link);
		k->interrupted(k);
	}
	forks_drain(fs->forks); /* a worker may still read for a file */
	while ((f = list_first(&fs->files, struct file, link)))
		file_close(f);
}

/* Those the kernel didn't forget before it let go of the mount. */
static void free_nodes(struct fs *fs)
{
	struct node *n;

	fs->root = NULL;
	while ((n = list_first(&fs->all_nodes, struct node, link)))
		node_forget(n, n->lookups);
}

void fs_destroy(struct fs *fs)
{
	struct user_error *e;

	if (!fs)
		return;
	list_remove(&fs->forks_changed.link);
	while ((e = list_first(&fs->errors, struct user_error, link))) {
		list_remove(&e->link);
		free(e);
	}
	free_nodes(fs);
	text_finish(&fs->doctor);
	free(fs);
}

static struct user_error *error_of(const struct fs *fs, uid_t uid)
{
	struct user_error *e;

	list_for_each(e, &fs->errors, link)
		if (e->uid == uid)
			return e;
	return NULL;
}

static size_t error_count(const struct fs *fs)
{
	struct user_error *e;
	size_t n = 0;

	list_for_each(e, &fs->errors, link)
		n++;
	return n;
}

void fs_set_error(struct fs *fs, uid_t uid, const struct failure *why)
{
	struct user_error *e = error_of(fs, uid);

	if (!e && error_count(fs) >= ERRORS_MAX)
		e = list_first(&fs->errors, struct user_error, link);
	if (!e)
		e = calloc(1, sizeof *e);
	if (!e)
		return;
	if (e->link.next)
		list_remove(&e->link);
	e->uid = uid;
	snprintf(e->text, sizeof e->text, "%s", why->text);
	list_append(&fs->errors, &e->link);
}

const char *fs_error(const struct fs *fs, uid_t uid)
{
	const struct user_error *e = error_of(fs, uid);

	return e ? e->text : "";
}

void reply_failure(fuse_req_t req, struct fs *fs, struct fork *fork, const struct failure *why)
{
	if (fork)
		fork_set_error(fork, why);
	else
		fs_set_error(fs, fuse_req_ctx(req)->uid, why);
	fuse_reply_err(req, why->code);
}

void refuse(fuse_req_t req, struct file *f, struct failure *why)
{
	if (f->node->fork)
		fail_within(why, "fork %s", f->node->fork->id);
	reply_failure(req, f->fs, f->node->fork, why);
}

/* A descriptor may be handed to somebody who is allowed more and can be made to write a path into it, a setuid program that complains about its argument, say. */
static int check_writer(const struct file *f, const struct fuse_ctx *ctx, struct failure *why)
{
	if (f->uid == 0 || (f->uid == ctx->uid && f->gid == ctx->gid))
		return 0;
	return fail(why, EACCES, "%s: user %u, group %u opened it and user %u, group %u writes a path into it", f->node->row->name, f->uid, f->gid, ctx->uid,
		    ctx->gid);
}

struct caller *request_caller(fuse_req_t req, struct file *f)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct caller *c = NULL;
	struct failure why;

	if (check_writer(f, ctx, &why) < 0) {
		refuse(req, f, &why);
		return NULL;
	}
	if (caller_create(&c, ctx->pid, ctx->uid, ctx->gid, &why) < 0) {
		reply_failure(req, f->fs, f->node->fork, &why);
		return NULL;
	}
	return c;
}
