/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/firecracker_devices.h"

#include <fcntl.h>
#include <string.h>

#include "vmm/base/log.h"
#include "vmm/tap.h"

#define MADE_MAX 64 /* no machine has more */

/* One that is being made. */
struct making {
	struct opens_work work;
	struct firecracker_devices *devices;
	struct failure why;
};

static void made(struct opens_work *w, int result, bool wanted)
{
	struct making *m = container_of(w, struct making, work);

	if (wanted && result < 0 && !m->devices->why.code)
		m->devices->why = m->why;
	free(m);
}

static int make(struct firecracker_devices *d, int (*run)(struct opens_work *, const char *, const atomic_bool *, int *), struct opens_answer *ret)
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
	int fd = tap_nowhere(&m->why);

	(void)path;
	(void)cancelled;
	if (fd < 0) {
		m->why.code = EOPNOTSUPP; /* of this host */
		return fd;
	}
	*ret = fd;
	return 0;
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
		return make(d, make_tap, ret);
	/* Whatever else it writes to is a disk, which every child of its snapshot would write. Nothing is looked up: its path may lead into our own mount. /dev has disks, too: a
	 * block device, a file in /dev/shm. */
	if ((flags & O_ACCMODE) == O_RDONLY || !strcmp(path, "/dev/null"))
		return OPENS_PASS;
	log_warn("a guest's disk is refused (%.200s): all children of its snapshot would write it. It has to be read-only there", path);
	return -EROFS;
}
