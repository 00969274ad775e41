/* SPDX-License-Identifier: Apache-2.0
 *
 * A filesystem with one file, "file", that everybody may open: whatever else is asked of it, its close included, waits for ever. stuckfs MOUNTPOINT; stays in the foreground. */
#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_INO 2

static void fill(fuse_ino_t ino, struct stat *st)
{
	*st = (struct stat){ .st_ino = ino, .st_nlink = 1, .st_mode = ino == FILE_INO ? S_IFREG | 0666 : S_IFDIR | 0755 };
}

static void lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { .ino = FILE_INO };

	(void)parent;
	fill(FILE_INO, &e.attr);
	if (strcmp(name, "file"))
		fuse_reply_err(req, ENOENT);
	else
		fuse_reply_entry(req, &e);
}

static void getattr_(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	(void)fi;
	fill(ino, &st);
	fuse_reply_attr(req, &st, 0);
}

static void open_(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->direct_io = 1;
	fuse_reply_open(req, fi);
}

static void read_(fuse_req_t req, fuse_ino_t ino, size_t n, off_t offset, struct fuse_file_info *fi)
{
	(void)req, (void)ino, (void)n, (void)offset, (void)fi;
}

static void flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)req, (void)ino, (void)fi;
}

static void ioctl_(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg, struct fuse_file_info *fi, unsigned int flags, const void *in, size_t in_n, size_t out_n)
{
	(void)req, (void)ino, (void)cmd, (void)arg, (void)fi, (void)flags, (void)in, (void)in_n, (void)out_n;
}

static const struct fuse_lowlevel_ops ops = {
	.lookup = lookup,
	.getattr = getattr_,
	.open = open_,
	.read = read_,
	.flush = flush,
	.ioctl = ioctl_,
};

int main(int argc, char **argv)
{
	char *args_[] = { argv[0], (char[]){ "-oallow_other" }, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(2, args_);
	struct fuse_session *s;

	if (argc != 2)
		return 2;
	s = fuse_session_new(&args, &ops, sizeof ops, NULL);
	if (!s || fuse_session_mount(s, argv[1]))
		return 1;
	fuse_session_loop(s);
	fuse_session_unmount(s);
	fuse_session_destroy(s);
	return 0;
}
