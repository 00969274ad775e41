/* SPDX-License-Identifier: Apache-2.0
 *
 * What the kernel asks. */
#include <linux/fuse.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "fs/file.h"
#include "fs/files.h"
#include "fs/kept.h"
#include "fs/node.h"
#include "vmm/host.h"

static struct fs *fs_of(fuse_req_t req)
{
	struct fs *fs = fuse_req_userdata(req);

	fs->asker = fuse_req_ctx(req)->uid;
	return fs;
}

static struct file *file_of(const struct fuse_file_info *fi)
{
	return (struct file *)(uintptr_t)fi->fh;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->want &= ~(unsigned int)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->want &= ~(unsigned int)FUSE_CAP_ASYNC_DIO; /* who asks waits until it is answered: caller.c counts on it */
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e = { 0 };
	struct node *n;
	int r = node_lookup(node_of(fs, parent), name, &n);

	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	e.ino = node_number(n);
	node_stat(n, &e.attr);
	if (fuse_reply_entry(req, &e))
		node_forget(n, 1);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	node_forget(node_of(fs_of(req), ino), nlookup);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fs *fs = fs_of(req);

	for (size_t i = 0; i < count; i++)
		node_forget(node_of(fs, forgets[i].ino), forgets[i].nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	(void)fi;
	node_stat(node_of(fs_of(req), ino), &st);
	fuse_reply_attr(req, &st, 0);
}

/* The owner, group and mode of a fork's directory can be changed; and a truncation of what takes commands is what a shell's > does: nothing. */
static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	static const int owning = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
	static const int harmless = FUSE_SET_ATTR_CTIME;
	struct node *n = node_of(fs_of(req), ino);
	bool dir = n->row == &table[ROW_FORK];

	to_set &= ~harmless;
	if (!dir && (to_set & FUSE_SET_ATTR_SIZE) && node_writable(n)) {
		op_getattr(req, ino, fi);
	} else if (dir && !(to_set & ~owning)) {
		fork_own(n->fork, to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1, to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1,
			 to_set & FUSE_SET_ATTR_MODE ? attr->st_mode & 07777 : (mode_t)-1);
		op_getattr(req, ino, fi);
	} else {
		fuse_reply_err(req, EPERM);
	}
}

static void root_failure(fuse_req_t req, struct fs *fs, const struct failure *why)
{
	reply_failure(req, fs, NULL, why);
}

static void make_fork(fuse_req_t req, struct fs *fs, const char *name)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct fuse_entry_param e = { 0 };
	struct failure why;
	struct fork *f;
	struct node *n;

	if (fork_create(&f, fs->forks, name, ctx->uid, ctx->gid, &why) < 0) {
		root_failure(req, fs, &why);
		return;
	}
	if (node_of_fork(fs, f, &n) < 0) {
		fork_remove(f);
		fuse_reply_err(req, ENOMEM);
		return;
	}
	e.ino = node_number(n);
	node_stat(n, &e.attr);
	if (fuse_reply_entry(req, &e))
		node_forget(n, 1);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fs *fs = fs_of(req);
	struct node *dir = node_of(fs, parent);

	(void)mode;
	if (dir->row->inside == PLACE_ROOT)
		make_fork(req, fs, name);
	else if (dir->row->inside == PLACE_SNAPSHOTS)
		make_snapshot(dir, req, name);
	else
		fuse_reply_err(req, EPERM);
}

static void remove_fork(fuse_req_t req, struct fs *fs, const char *name)
{
	struct fork *f = fork_find(fs->forks, name);

	if (f)
		fork_remove(f);
	fuse_reply_err(req, f ? 0 : EPERM);
}

static void remove_shot(fuse_req_t req, struct node *dir, const char *name)
{
	struct shot *s = fork_shot(dir->fork, name);
	struct failure why;

	if (!s)
		fuse_reply_err(req, ENOENT);
	else if (shot_remove(s, &why) < 0)
		reply_failure(req, dir->fs, dir->fork, &why);
	else
		fuse_reply_err(req, 0);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct node *dir = node_of(fs, parent);

	if (dir->row->inside == PLACE_ROOT)
		remove_fork(req, fs, name);
	else if (dir->row->inside == PLACE_SNAPSHOTS)
		remove_shot(req, dir, name);
	else
		fuse_reply_err(req, EPERM);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname, unsigned int flags)
{
	struct fs *fs = fs_of(req);
	struct node *from = node_of(fs, parent), *to = node_of(fs, newparent);
	struct fork *f = from->row->inside == PLACE_ROOT ? fork_find(fs->forks, name) : NULL;
	struct failure why;

	if (!f || to->row->inside != PLACE_ROOT)
		fuse_reply_err(req, EPERM);
	else if (flags & ~1u) /* RENAME_NOREPLACE is what it always is */
		fuse_reply_err(req, EINVAL);
	else if (fork_rename(f, newname, &why) < 0)
		root_failure(req, fs, &why);
	else
		fuse_reply_err(req, 0);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	(void)parent;
	(void)name;
	fuse_reply_err(req, EPERM);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	(void)mode;
	(void)rdev;
	op_unlink(req, parent, name);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	(void)mode;
	(void)fi;
	op_unlink(req, parent, name);
}

static void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	(void)link;
	op_unlink(req, parent, name);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	(void)ino;
	op_unlink(req, newparent, newname);
}

/* libfuse 3.14 has no field for FOPEN_STREAM, without which the kernel lets no write beside a waiting read on one descriptor. */
static void reply_open(fuse_req_t req, struct file *f)
{
	struct fuse_open_out out = { .fh = (uint64_t)(uintptr_t)f, .open_flags = FOPEN_DIRECT_IO };
	struct iovec iov = { &out, sizeof out };

	if (f->talk && f->node->row->kind->hear)
		out.open_flags |= FOPEN_STREAM | FOPEN_NONSEEKABLE;
	if (fuse_reply_iov(req, &iov, 1))
		file_close(f);
}

struct slow_open {
	struct kept kept;
	struct node *node;
	uid_t uid;
	gid_t gid;
	int flags;
};

static void finish_open(fuse_req_t req, struct node *n, uid_t uid, gid_t gid, int flags)
{
	struct file *f;
	int r = file_open(n, uid, gid, flags, &f);

	if (r < 0)
		fuse_reply_err(req, -r);
	else
		reply_open(req, f);
}

static void slow_open_interrupted(struct kept *k)
{
	fuse_reply_err(kept_answer(k), EINTR); /* the checkup ends by itself and frees it */
}

static void checked_up(void *data)
{
	struct slow_open *o = data;
	fuse_req_t req = kept_answer(&o->kept);

	if (req)
		finish_open(req, o->node, o->uid, o->gid, o->flags);
	free(o);
}

/* doctor looks at the host first. */
static void open_doctor(fuse_req_t req, struct node *n, int flags)
{
	struct slow_open *o = malloc(sizeof *o);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	if (!o) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	*o = (struct slow_open){ .node = n, .uid = ctx->uid, .gid = ctx->gid, .flags = flags };
	kept_init(&o->kept, n->fs, req, slow_open_interrupted);
	if (doctor_refresh(n->fs, checked_up, o) < 0) {
		fuse_reply_err(kept_answer(&o->kept), ENOMEM);
		free(o);
	}
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct node *n = node_of(fs_of(req), ino);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	if (n->row->kind == &doctor_kind)
		open_doctor(req, n, fi->flags);
	else
		finish_open(req, n, ctx->uid, ctx->gid, fi->flags);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	file_close(file_of(fi));
	fuse_reply_err(req, 0);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)ino;
	fs_of(req);
	file_read(file_of(fi), req, size, off, fi->flags & O_NONBLOCK);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct file *f = file_of(fi);

	(void)ino;
	fs_of(req);
	f->nonblock = fi->flags & O_NONBLOCK;
	file_write(f, req, buf, size, off);
}

static void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *ph)
{
	(void)ino;
	fs_of(req);
	file_poll(file_of(fi), req, ph);
}

/* One ENOSYS would switch it off for the whole mount: every file answers. */
static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct node *n = node_of(fs_of(req), ino);
	struct stat st;
	off_t at;

	if (n->row->kind->seek) {
		at = n->row->kind->seek(file_of(fi), off, whence);
	} else {
		node_stat(n, &st);
		at = off < 0 || off >= st.st_size ? -ENXIO : whence == SEEK_DATA ? off : st.st_size;
	}
	if (at < 0)
		fuse_reply_err(req, (int)-at);
	else
		fuse_reply_lseek(req, at);
}

/* A directory is listed when it is opened or rewound: what comes and goes meanwhile shifts nothing. */
struct listing {
	struct entry {
		char name[FORK_ID_MAX + 1];
		uint64_t inode;
		mode_t mode;
	} *entries;
	size_t count, size;
	bool failed;
};

static void list_entry(void *data, const char *name, uint64_t inode, mode_t mode)
{
	struct listing *l = data;
	struct entry *e;

	if (l->count == l->size) {
		size_t size = l->size ? l->size * 2 : 32;

		e = reallocarray(l->entries, size, sizeof *e);
		l->failed |= !e;
		if (!e)
			return;
		l->entries = e;
		l->size = size;
	}
	e = &l->entries[l->count++];
	e->inode = inode;
	e->mode = mode;
	strncpy(e->name, name, FORK_ID_MAX);
	e->name[FORK_ID_MAX] = '\0';
}

static void list_anew(struct listing *l, struct node *n)
{
	l->count = 0;
	list_entry(l, ".", n->inode, S_IFDIR);
	list_entry(l, "..", 1, S_IFDIR);
	node_list(n, list_entry, l);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct listing *l = calloc(1, sizeof *l);

	(void)ino;
	fi->fh = (uint64_t)(uintptr_t)l;
	if (!l)
		fuse_reply_err(req, ENOMEM);
	else if (fuse_reply_open(req, fi))
		free(l);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct listing *l = (struct listing *)(uintptr_t)fi->fh;

	(void)ino;
	free(l->entries);
	free(l);
	fuse_reply_err(req, 0);
}

static size_t add_entries(fuse_req_t req, const struct listing *l, size_t from, char *buf, size_t size)
{
	size_t used = 0;

	for (size_t i = from; i < l->count; i++) {
		const struct entry *e = &l->entries[i];
		struct stat st = { .st_ino = e->inode, .st_mode = e->mode };
		size_t n = fuse_add_direntry(req, buf + used, size - used, e->name, &st, (off_t)i + 1);

		if (n > size - used)
			break;
		used += n;
	}
	return used;
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct listing *l = (struct listing *)(uintptr_t)fi->fh;
	struct node *n = node_of(fs_of(req), ino);
	AUTO_FREE char *buf = malloc(size);

	if (off == 0)
		list_anew(l, n);
	if (!buf || l->failed)
		fuse_reply_err(req, ENOMEM);
	else
		fuse_reply_buf(req, buf, add_entries(req, l, (size_t)off, buf, size));
}

/* df shows memory. */
static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	const struct forks *all = fs_of(req)->forks;
	uint64_t available, total, limit = config_number(&all->config, CONFIG_MEMORY_MAX) << 20;
	struct statvfs st = { .f_bsize = 4096, .f_frsize = 4096, .f_namemax = FORK_ID_MAX };

	(void)ino;
	host_memory(&available, &total);
	if (limit && limit < total)
		total = limit;
	if (available > total)
		available = total;
	st.f_blocks = total / 4096;
	st.f_bfree = st.f_bavail = available / 4096;
	st.f_files = all->count + table_rows;
	fuse_reply_statfs(req, &st);
}

const struct fuse_lowlevel_ops fs_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.mkdir = op_mkdir,
	.rmdir = op_rmdir,
	.rename = op_rename,
	.unlink = op_unlink,
	.mknod = op_mknod,
	.create = op_create,
	.symlink = op_symlink,
	.link = op_link,
	.open = op_open,
	.release = op_release,
	.read = op_read,
	.write = op_write,
	.poll = op_poll,
	.lseek = op_lseek,
	.opendir = op_opendir,
	.releasedir = op_releasedir,
	.readdir = op_readdir,
	.statfs = op_statfs,
};
