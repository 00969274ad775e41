/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/firecracker_devices.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/log.h"
#include "vmm/disk.h"
#include "vmm/tap.h"

#define MADE_MAX 64 /* no machine has more */

/* One that is being made. */
struct making {
	struct opens_work work;
	struct firecracker_devices *devices; /* the loop's */
	/* of a tap of the host's: */
	char tap[16];
	struct caller *caller;
	/* of a disk: */
	struct caller vmm;
	char *dir, name[72];
	struct disk_copied copied;
	struct failure why;
};

static void made(struct opens_work *w, int result, bool wanted)
{
	struct making *m = container_of(w, struct making, work);

	if (wanted && result < 0 && !m->devices->why.code)
		m->devices->why = m->why;
	caller_unref(m->caller);
	free(m->dir);
	free(m);
}

typedef int make_fn(struct opens_work *w, const char *path, const atomic_bool *cancelled, int *ret);

static int make(struct firecracker_devices *d, make_fn *run, struct opens_answer *ret)
{
	struct making *m;

	if (!d->loading)
		return -EPERM;
	if (d->made++ >= MADE_MAX)
		return -EMFILE;
	m = calloc(1, sizeof *m);
	if (!m)
		return -ENOMEM;
	m->work = (struct opens_work){ run, made };
	m->devices = d;
	ret->work = &m->work;
	return OPENS_WORK;
}

static int make_tap(struct opens_work *w, const char *path, const atomic_bool *cancelled, int *ret)
{
	struct making *m = container_of(w, struct making, work);
	int fd = m->caller ? tap_attach(m->tap, m->caller, &m->why) : tap_nowhere(&m->why);

	(void)path;
	(void)cancelled;
	if (fd < 0)
		return fd;
	*ret = fd;
	return 0;
}

/* There is one tap for a guest, and its first interface has it. */
static int answer_tap(struct firecracker_devices *d, struct opens_answer *ret)
{
	int r = make(d, make_tap, ret);
	struct making *m;

	if (r != OPENS_WORK || !d->tap)
		return r;
	m = container_of(ret->work, struct making, work);
	snprintf(m->tap, sizeof m->tap, "%s", d->tap);
	m->caller = caller_ref(d->caller);
	d->tap = NULL;
	return r;
}

/* As the VMM itself: a state is whatever a VMM wrote that may have been its guest's by then. It must not lead to what only the user who restores it may read. */
static int make_disk(struct opens_work *w, const char *path, const atomic_bool *cancelled, int *ret)
{
	struct making *m = container_of(w, struct making, work);
	AUTO_CLOSE int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct disk_spec spec = { path, &m->vmm, m->dir, cancelled };
	int fd;

	m->vmm.root = root;
	fd = disk_copy(&spec, &m->copied, &m->why);
	if (fd < 0)
		return fd;
	log_info("%s has its own copy of the disk %.200s: %s, %llu bytes copied", m->name, path, m->copied.reflink ? "a reflink" : "a copy", (unsigned long long)m->copied.bytes);
	*ret = fd;
	return 0;
}

/* Likewise. The VMM itself may open no file of the host's. */
static int read_disk(struct opens_work *w, const char *path, const atomic_bool *cancelled, int *ret)
{
	struct making *m = container_of(w, struct making, work);
	AUTO_CLOSE int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), at = -1;
	int fd;

	(void)cancelled;
	m->vmm.root = root;
	at = caller_open(&m->vmm, path, &m->why);
	if (at < 0)
		return at;
	fd = caller_read(&m->vmm, at, path, &m->why);
	if (fd >= 0)
		*ret = fd;
	return fd < 0 ? fd : 0;
}

static void disk_made(struct opens_work *w, int result, bool wanted)
{
	struct making *m = container_of(w, struct making, work);

	if (wanted && result == 0)
		m->devices->has_disk = true;
	made(w, result, wanted);
}

/* Every child of its snapshot would write it. Nothing is looked up: its path may lead into our own mount. */
static int refuse_disk(struct firecracker_devices *d, const char *path)
{
	if (!d->loading)
		log_warn("a disk is refused that a VMM would write (%.200s)", path);
	else if (!d->why.code)
		fail(&d->why, EOPNOTSUPP, "its guest writes the disk %s, as all children of the snapshot would: make it read-only there (is_read_only), or name a directory for a copy of each "
		     "child's in config/disk_dir", path);
	return -EROFS;
}

static int answer_disk(struct firecracker_devices *d, const char *path, struct opens_answer *ret)
{
	struct making *m;
	int r;

	if (!d->loading || !d->disks)
		return refuse_disk(d, path);
	r = make(d, make_disk, ret);
	if (r != OPENS_WORK)
		return r;
	m = container_of(ret->work, struct making, work);
	m->work.done = disk_made;
	m->vmm = (struct caller){ .uid = d->uid, .gid = d->gid };
	snprintf(m->name, sizeof m->name, "%s", d->name);
	m->dir = strdup(d->disks);
	if (m->dir)
		return OPENS_WORK;
	free(m);
	return -ENOMEM;
}

static int answer_read(struct firecracker_devices *d, struct opens_answer *ret)
{
	int r = d->loading ? make(d, read_disk, ret) : OPENS_PASS;

	if (r == OPENS_WORK)
		container_of(ret->work, struct making, work)->vmm = (struct caller){ .uid = d->uid, .gid = d->gid };
	return r;
}

static int open_host(const struct firecracker_devices *d, const char *path, struct opens_answer *ret)
{
	if (!d->unprivileged)
		return OPENS_PASS;
	ret->fd = open(path, O_RDWR | O_CLOEXEC);
	return ret->fd < 0 ? -errno : 0;
}

int firecracker_devices_answer(struct firecracker_devices *d, const char *path, int flags, struct opens_answer *ret)
{
	if (!strcmp(path, "/dev/kvm") || !strcmp(path, "/dev/userfaultfd"))
		return open_host(d, path, ret);
	if (!strcmp(path, "/dev/net/tun"))
		return answer_tap(d, ret);
	/* Whatever else it writes to is a disk, wherever it is: /dev has block devices, and /dev/shm. */
	if (!strcmp(path, "/dev/null"))
		return OPENS_PASS;
	if ((flags & O_ACCMODE) == O_RDONLY)
		return answer_read(d, ret);
	return answer_disk(d, path, ret);
}
