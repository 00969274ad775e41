/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "vmm/base/io.h"
#include "vmm/base/list.h"
#include "vmm/foreign.h"
#include "vmm/forkd_tag.h"

static int sealed_memfd(const char *name, const char *data, size_t n)
{
	AUTO_CLOSE int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r;

	if (fd < 0)
		return -errno;
	r = write_all(fd, data, n);
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK))
		return -errno;
	return steal_fd(&fd);
}

int copy_to_memfd(int from, const char *name, size_t max, struct failure *why)
{
	AUTO_FREE char *data = NULL;
	size_t n;
	int r = read_file(from, max, &data, &n);

	if (r == -EFBIG)
		return fail(why, EINVAL, "%s: is larger than %zu MiB", name, max >> 20);
	if (r < 0)
		return fail_errno(why, -r, "%s", name);
	r = sealed_memfd(name, data, n);
	return r < 0 ? fail_errno(why, -r, "%s: can't be kept in memory", name) : r;
}

/* What was found out about a snapshot whose files have not changed since. No file is kept open for it. */
struct known {
	struct list link;
	struct snapshot_key key;
	struct recipe recipe;
	int vmstate;
	bool has_data;
	struct extents data; /* of its memory */
};

#define KNOWN_MAX 16
#define SETTLED_NSEC 50000000 /* a file is written to again within a tick of its clock without a trace; ticks are 10 ms at most */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t settled = PTHREAD_COND_INITIALIZER;
/* guarded by lock; the oldest first */
static struct list known = { &known, &known };
static unsigned int known_count;
static struct list published = { &published, &published };

struct publication {
	struct list link;
	uint64_t serial;
	struct snapshot_place place;
	struct snapshot *snapshot;
};

static void forget(struct known *k)
{
	list_remove(&k->link);
	close_fd(&k->vmstate);
	extents_finish(&k->data);
	free(k);
	known_count--;
}

void snapshot_forget(void)
{
	pthread_mutex_lock(&lock);
	while (!list_empty(&known))
		forget(list_first(&known, struct known, link));
	pthread_mutex_unlock(&lock);
}

/* Padding is zero on both sides: the structs are cleared before they are filled. */
static bool same_key(const struct snapshot_key *a, const struct snapshot_key *b)
{
	return !memcmp(a, b, sizeof *a);
}

/* Called with the lock. */
static struct known *find_known(const struct snapshot *s)
{
	struct known *k;

	list_for_each(k, &known, link)
		if (same_key(&k->key, &s->key))
			return k;
	return NULL;
}

/* Where the data of a file lies is looked up once: that takes a millisecond for each hundred megabytes. */
static bool recall_data(const struct snapshot *s, struct extents *ret)
{
	struct known *k;
	bool found;

	pthread_mutex_lock(&lock);
	k = find_known(s);
	found = k && k->has_data && extents_union(ret, &k->data, &(struct extents){ 0 }) == 0;
	pthread_mutex_unlock(&lock);
	return found;
}

static void remember_data(const struct snapshot *s)
{
	struct known *k;

	pthread_mutex_lock(&lock);
	k = find_known(s);
	if (k && !k->has_data)
		k->has_data = memory_source_extents(s->memory, &k->data) == 0;
	pthread_mutex_unlock(&lock);
}

int snapshot_memory(struct snapshot *s, struct memory_source **ret, struct failure *why)
{
	AUTO_EXTENTS struct extents data = { 0 };
	int r = 0;

	pthread_mutex_lock(&s->making);
	if (!s->memory) {
		bool known_data = recall_data(s, &data);

		r = memory_source_create_file(&s->memory, s->file, s->recipe.ram_size, known_data ? &data : NULL, why);
		if (r == 0 && !known_data)
			remember_data(s);
	}
	pthread_mutex_unlock(&s->making);
	if (r == 0)
		*ret = s->memory;
	return r;
}

static bool recall(struct snapshot *s)
{
	struct known *k;

	pthread_mutex_lock(&lock);
	k = find_known(s);
	if (k) {
		s->recipe = k->recipe;
		s->vmstate = fcntl(k->vmstate, F_DUPFD_CLOEXEC, 3);
	}
	pthread_mutex_unlock(&lock);
	return s->vmstate >= 0;
}

static bool before(const struct timespec *t, const struct timespec *now)
{
	int64_t age = ((int64_t)now->tv_sec - t->tv_sec) * 1000000000 + now->tv_nsec - t->tv_nsec;

	return age > SETTLED_NSEC;
}

static bool is_settled(const struct snapshot_key *k)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return before(&k->manifest.changed, &now) && before(&k->manifest.modified, &now) && before(&k->memory.changed, &now) &&
	       before(&k->memory.modified, &now) && before(&k->vmstate.changed, &now) && before(&k->vmstate.modified, &now);
}

static void remember(const struct snapshot *s)
{
	struct known *k = is_settled(&s->key) ? calloc(1, sizeof *k) : NULL;

	if (!k)
		return;
	k->key = s->key;
	k->recipe = s->recipe;
	k->vmstate = fcntl(s->vmstate, F_DUPFD_CLOEXEC, 3);
	pthread_mutex_lock(&lock);
	list_append(&known, &k->link);
	known_count++;
	if (k->vmstate < 0)
		forget(k);
	if (known_count > KNOWN_MAX)
		forget(list_first(&known, struct known, link));
	pthread_mutex_unlock(&lock);
}

/* Opens a member and looks what it is. */
static int open_member(const struct caller *c, int dir, const char *name, struct stat *st, struct failure *why)
{
	AUTO_CLOSE int path = caller_open_at(c, dir, name, why);
	AUTO_CLOSE int fd = -1;

	if (path < 0)
		return path;
	fd = caller_read(c, path, name, why);
	if (fd < 0)
		return fd;
	if (fstat(fd, st))
		return fail_errno(why, errno, "%s", name);
	return steal_fd(&fd);
}

#define SET_KEY(part, st)                                 \
	do {                                              \
		(part).dev = (st)->st_dev;                \
		(part).ino = (st)->st_ino;                \
		(part).size = (st)->st_size;              \
		(part).modified = (st)->st_mtim;          \
		(part).changed = (st)->st_ctim;           \
	} while (0)

static int read_manifest(int manifest, char **ret, size_t *ret_n, struct failure *why)
{
	int r = read_file(manifest, RECIPE_JSON_MAX, ret, ret_n);

	if (r == -EFBIG)
		return fail(why, EINVAL, "snapshot.json: is larger than %u bytes", RECIPE_JSON_MAX);
	return r < 0 ? fail_errno(why, -r, "snapshot.json") : 0;
}

static int check_memory(const struct snapshot *s, struct failure *why)
{
	const struct recipe *recipe = &s->recipe;
	off_t size = s->key.memory.size;

	if ((uint64_t)size < recipe->ram_size)
		return fail(why, EINVAL, "%s: is truncated: it has %lld bytes, the guest's RAM %llu", recipe->memory.file, (long long)size,
			    (unsigned long long)recipe->ram_size);
	if ((uint64_t)size != recipe->memory.size)
		return fail(why, EINVAL, "%s: has %lld bytes, snapshot.json says %llu", recipe->memory.file, (long long)size,
			    (unsigned long long)recipe->memory.size);
	return 0;
}

static int check_vmstate(const struct recipe *recipe, const char *data, size_t n, struct failure *why)
{
	if (n != recipe->vmstate.size)
		return fail(why, EINVAL, "%s: has %zu bytes, snapshot.json says %llu", recipe->vmstate.file, n,
			    (unsigned long long)recipe->vmstate.size);
	if (recipe->vmstate.has_crc64 && crc64_jones(0, data, n) != recipe->vmstate.crc64)
		return fail(why, EINVAL, "%s: is corrupt: its CRC-64 is not the one in snapshot.json", recipe->vmstate.file);
	return 0;
}

static int read_vmstate(struct snapshot *s, int fd, struct failure *why)
{
	const char *name = s->recipe.vmstate.file;
	AUTO_FREE char *data = NULL;
	size_t n;
	int r = read_file(fd, SNAPSHOT_VMSTATE_MAX, &data, &n);

	if (r == -EFBIG)
		return fail(why, EINVAL, "%s: is larger than %u MiB", name, SNAPSHOT_VMSTATE_MAX >> 20);
	if (r < 0)
		return fail_errno(why, -r, "%s", name);
	r = check_vmstate(&s->recipe, data, n, why);
	if (r < 0)
		return r;
	s->vmstate = sealed_memfd("vmstate", data, n);
	return s->vmstate < 0 ? fail_errno(why, -s->vmstate, "%s: can't be kept in memory", name) : 0;
}

/* A manifest that has not changed since it was read need not be read again. */
static bool known_recipe(const struct snapshot *s, struct recipe *ret)
{
	struct known *k;
	bool found = false;

	pthread_mutex_lock(&lock);
	list_for_each(k, &known, link)
		if (!k->key.foreign && !memcmp(&k->key.manifest, &s->key.manifest, sizeof s->key.manifest)) {
			*ret = k->recipe;
			found = true;
		}
	pthread_mutex_unlock(&lock);
	return found;
}

/* The members of one that forkfs has not written are found first, and tell what they are. */
static int open_foreign(struct snapshot *s, int *ret_vmstate, const struct caller *c, int dir, const char *tag, size_t n, struct failure *why)
{
	struct foreign f;
	int r = foreign_find(&f, c, dir, tag, n, why);

	if (r < 0)
		return r;
	s->key.foreign = true;
	s->recipe = f.recipe;
	s->file = f.memory;
	*ret_vmstate = f.vmstate;
	return 0;
}

static int open_ours(struct snapshot *s, int *ret_vmstate, const struct caller *c, int dir, struct failure *why)
{
	struct stat st;

	s->file = open_member(c, dir, s->recipe.memory.file, &st, why);
	if (s->file < 0)
		return s->file;
	*ret_vmstate = open_member(c, dir, s->recipe.vmstate.file, &st, why);
	return *ret_vmstate < 0 ? *ret_vmstate : 0;
}

static int open_described(struct snapshot *s, int *ret_vmstate, const struct caller *c, int dir, int manifest, struct failure *why)
{
	AUTO_FREE char *json = NULL;
	size_t n;
	int r;

	if (known_recipe(s, &s->recipe))
		return open_ours(s, ret_vmstate, c, dir, why);
	r = read_manifest(manifest, &json, &n, why);
	if (r < 0)
		return r;
	if (forkd_tag_is(json, n))
		return open_foreign(s, ret_vmstate, c, dir, json, n, why);
	r = recipe_parse(&s->recipe, json, n, why);
	return r < 0 ? fail_within(why, "snapshot.json") : open_ours(s, ret_vmstate, c, dir, why);
}

static int open_files(struct snapshot *s, int *ret_vmstate, const struct caller *c, int dir, struct failure *why)
{
	AUTO_CLOSE int manifest = -1;
	struct failure unopened;
	struct stat st;

	manifest = open_member(c, dir, "snapshot.json", &st, &unopened);
	if (manifest == -ENOENT)
		return open_foreign(s, ret_vmstate, c, dir, NULL, 0, why);
	if (manifest < 0) {
		*why = unopened;
		return manifest;
	}
	SET_KEY(s->key.manifest, &st);
	return open_described(s, ret_vmstate, c, dir, manifest, why);
}

static int open_members(struct snapshot *s, const struct caller *c, int dir, struct failure *why)
{
	AUTO_CLOSE int vmstate = -1;
	struct stat st;
	int r = open_files(s, &vmstate, c, dir, why);

	if (r < 0)
		return r;
	if (fstat(s->file, &st) < 0)
		return fail_errno(why, errno, "%s", s->recipe.memory.file);
	s->memory_bytes = (uint64_t)st.st_blocks * 512;
	SET_KEY(s->key.memory, &st);
	r = check_memory(s, why);
	if (r < 0)
		return r;
	if (fstat(vmstate, &st) < 0)
		return fail_errno(why, errno, "%s", s->recipe.vmstate.file);
	SET_KEY(s->key.vmstate, &st);
	if (recall(s))
		return 0;
	r = read_vmstate(s, vmstate, why);
	if (r == 0)
		remember(s);
	return r;
}

static struct snapshot *alloc_snapshot(void)
{
	struct snapshot *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	atomic_init(&s->refs, 1);
	pthread_mutex_init(&s->making, NULL);
	s->file = s->vmstate = s->dir = s->pages = -1;
	return s;
}

int snapshot_open(struct snapshot **ret, const struct caller *c, int dir, const char *path, struct failure *why)
{
	struct snapshot *s = alloc_snapshot();
	int r;

	if (!s)
		return fail(why, ENOMEM, "%s: no memory", path);
	r = open_members(s, c, dir, why);
	if (r < 0) {
		snapshot_unref(s);
		return fail_within(why, "snapshot %s", path);
	}
	*ret = s;
	return 0;
}

int snapshot_create(struct snapshot **ret, const struct recipe *recipe, const char *vmstate, size_t n, struct failure *why)
{
	struct snapshot *s = alloc_snapshot();
	int r;

	if (!s)
		return fail(why, ENOMEM, "no memory for a snapshot");
	s->recipe = *recipe;
	s->vmstate = sealed_memfd("vmstate", vmstate, n);
	if (s->vmstate < 0) {
		r = s->vmstate;
		snapshot_unref(s);
		return fail_errno(why, -r, "the device state can't be kept in memory");
	}
	*ret = s;
	return 0;
}

struct snapshot *snapshot_ref(struct snapshot *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void snapshot_unref(struct snapshot *s)
{
	if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
		return;
	memory_source_unref(s->memory);
	if (s->keeps)
		template_let_go(s->template);
	template_unref(s->template);
	close_fd(&s->file);
	close_fd(&s->vmstate);
	close_fd(&s->dir);
	close_fd(&s->pages);
	pthread_mutex_destroy(&s->making);
	free(s);
}

int snapshot_vmstate(const struct snapshot *s)
{
	char path[32];
	int fd;

	snprintf(path, sizeof path, "/proc/self/fd/%d", s->vmstate);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int snapshot_publish(uint64_t serial, const struct snapshot_place *place, struct snapshot *s)
{
	struct publication *p = calloc(1, sizeof *p);

	if (!p)
		return -ENOMEM;
	p->serial = serial;
	p->place = *place;
	p->snapshot = snapshot_ref(s);
	pthread_mutex_lock(&lock);
	list_append(&published, &p->link);
	pthread_mutex_unlock(&lock);
	return 0;
}

/* Called with the lock. */
static struct publication *find_published(uint64_t serial)
{
	struct publication *p;

	list_for_each(p, &published, link)
		if (p->serial == serial)
			return p;
	return NULL;
}

void snapshot_retract(uint64_t serial)
{
	struct publication *p;

	pthread_mutex_lock(&lock);
	p = find_published(serial);
	if (p)
		list_remove(&p->link);
	pthread_mutex_unlock(&lock);
	if (p)
		snapshot_unref(p->snapshot);
	free(p);
}

void snapshot_move(uint64_t serial, const struct snapshot_place *place)
{
	struct publication *p;

	pthread_mutex_lock(&lock);
	p = find_published(serial);
	if (p)
		p->place = *place;
	pthread_mutex_unlock(&lock);
}

#define NAMES_MAX 3

/* The names in a path, "." left out. Returns how many, NAMES_MAX + 1 where they are more. */
static size_t split(char *path, char *ret[NAMES_MAX])
{
	size_t n = 0;
	char *save;

	for (char *name = strtok_r(path, "/", &save); name; name = strtok_r(NULL, "/", &save))
		if (strcmp(name, ".") && n++ < NAMES_MAX)
			ret[n - 1] = name;
	return n;
}

/* FORK/snapshots/NAME below the root; below a directory that is mounted by itself the part of it that is left. An inode's number has the serial of what it belongs to (node.c). */
static bool is_at(const struct publication *p, ino_t entry, char *const *names, size_t n)
{
	uint64_t serial = entry >> 8;

	if (n == 0)
		return serial == p->serial;
	if (strcmp(names[n - 1], p->place.name) || (n > 1 && strcmp(names[n - 2], "snapshots")))
		return false;
	if (n == 3)
		return serial <= 1 && !strcmp(names[0], p->place.fork);
	return n < 3 && serial == p->place.fork_serial;
}

/* Who may read the files of a fork is who may read and search its directory: so fs/node.c gives their modes out. */
static bool may_restore(const struct caller *c, const struct snapshot_place *place)
{
	return caller_is_allowed(c, place->uid, place->gid, place->mode, 05);
}

static int find_inside(struct snapshot **ret, const struct caller *c, struct path_inside *inside, const char *path, struct failure *why)
{
	char *names[NAMES_MAX] = { NULL };
	size_t n = split(inside->rest, names);
	struct publication *p;
	int r = -ENOENT;

	pthread_mutex_lock(&lock);
	list_for_each(p, &published, link)
		if (r == -ENOENT && is_at(p, inside->entry, names, n)) {
			r = may_restore(c, &p->place) ? 0 : -EACCES;
			*ret = r == 0 ? snapshot_ref(p->snapshot) : NULL;
		}
	pthread_mutex_unlock(&lock);
	if (r == -ENOENT && (n < 3 || strcmp(names[1], "snapshots")))
		return fail(why, EINVAL, "%s: is no snapshot but another place of this mount", path);
	return r < 0 ? fail_errno(why, -r, "%s", path) : 0;
}

int snapshot_find(const struct caller *c, const char *path, int *ret_dir, struct snapshot **ret, struct failure *why)
{
	struct path_inside inside;
	AUTO_CLOSE int dir = -1;
	struct stat st;
	int r = caller_look_up(c, path, &dir, &inside, why);

	if (r < 0)
		return r;
	*ret_dir = -1;
	if (r == PATH_INSIDE)
		return find_inside(ret, c, &inside, path, why);
	if (fstat(dir, &st))
		return fail_errno(why, errno, "%s", path);
	if (!S_ISDIR(st.st_mode))
		return fail(why, EINVAL, "%s: is not a directory: a snapshot is one, with memory.bin, vmstate and snapshot.json", path);
	*ret_dir = steal_fd(&dir);
	return 0;
}

void snapshot_settle(struct snapshot *s, int result)
{
	pthread_mutex_lock(&lock);
	atomic_store(&s->pending, result);
	pthread_cond_broadcast(&settled);
	pthread_mutex_unlock(&lock);
}

#define LOOK_NSEC 20000000 /* how often a waiting worker looks whether it was called off */

int snapshot_wait(struct snapshot *s, const atomic_bool *cancelled, struct failure *why)
{
	int r;

	pthread_mutex_lock(&lock);
	while ((r = atomic_load(&s->pending)) > 0 && !(cancelled && atomic_load(cancelled))) {
		struct timespec until;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += LOOK_NSEC;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&settled, &lock, &until);
	}
	pthread_mutex_unlock(&lock);
	if (r > 0)
		return fail(why, ECANCELED, "waiting for the snapshot to be complete was called off");
	return r < 0 ? fail_errno(why, EIO, "the snapshot was never completed") : 0;
}
