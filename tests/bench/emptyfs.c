/* SPDX-License-Identifier: Apache-2.0
 *
 * The least that a filesystem of libfuse's low-level API can be, to measure ours beside: directories that can be made and removed, each with one file
 * "state". Nothing is cached by the kernel, as with ours. Arguments: MOUNTPOINT. Stays in the foreground. */
#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DIRS 4096
#define FILES 8192 /* inode of a directory's file: its own and this */

static char names[DIRS][64]; /* by inode */

static void fill(fuse_ino_t ino, struct stat *st)
{
	*st = (struct stat){ .st_ino = ino, .st_nlink = 1, .st_mode = ino >= FILES ? S_IFREG | 0600 : S_IFDIR | 0755, .st_size = ino >= FILES ? 6 : 0 };
}

static void entry(fuse_req_t req, fuse_ino_t ino)
{
	struct fuse_entry_param e = { .ino = ino };

	fill(ino, &e.attr);
	fuse_reply_entry(req, &e);
}

static fuse_ino_t find(const char *name)
{
	for (fuse_ino_t i = 2; i < DIRS; i++)
		if (!strcmp(names[i], name))
			return i;
	return 0;
}

static void lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_ino_t ino = parent == FUSE_ROOT_ID ? find(name) : strcmp(name, "state") ? 0 : parent + FILES;

	if (ino)
		entry(req, ino);
	else
		fuse_reply_err(req, ENOENT);
}

static void getattr_(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	(void)fi;
	fill(ino, &st);
	fuse_reply_attr(req, &st, 0);
}

static void mkdir_(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	(void)parent;
	(void)mode;
	for (fuse_ino_t i = 2; i < DIRS; i++)
		if (!names[i][0]) {
			snprintf(names[i], sizeof names[i], "%s", name);
			entry(req, i);
			return;
		}
	fuse_reply_err(req, ENOSPC);
}

static void rmdir_(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_ino_t ino = find(name);

	(void)parent;
	if (ino)
		names[ino][0] = '\0';
	fuse_reply_err(req, ino ? 0 : ENOENT);
}

static void open_(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->direct_io = 1;
	fuse_reply_open(req, fi);
}

static void read_(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)ino;
	(void)size;
	(void)fi;
	fuse_reply_buf(req, "empty\n", off ? 0 : 6);
}

static const struct fuse_lowlevel_ops ops = {
	.lookup = lookup, .getattr = getattr_, .mkdir = mkdir_, .rmdir = rmdir_, .open = open_, .read = read_,
};

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_session *session;
	int r;

	if (argc != 2 || fuse_opt_add_arg(&args, "emptyfs") || fuse_opt_add_arg(&args, "-ofsname=emptyfs,default_permissions"))
		return 2;
	session = fuse_session_new(&args, &ops, sizeof ops, NULL);
	if (!session || fuse_set_signal_handlers(session) || fuse_session_mount(session, argv[1]))
		return 1;
	r = fuse_session_loop(session);
	fuse_session_unmount(session);
	fuse_remove_signal_handlers(session);
	fuse_session_destroy(session);
	fuse_opt_free_args(&args);
	return r ? 1 : 0;
}
