/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/node.h"

#include "fs/file.h"
#include "fs/files.h"

#include <search.h>
#include <string.h>
#include <sys/stat.h>

#define ROOT_SERIAL 1
#define KEY_BASE 128 /* the low byte of a setting's inode number */

static int by_inode(const void *a, const void *b)
{
	uint64_t x = ((const struct node *)a)->inode, y = ((const struct node *)b)->inode;

	return x < y ? -1 : x > y;
}

struct node *node_of(struct fs *fs, fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? fs->root : (struct node *)(uintptr_t)ino;
}

fuse_ino_t node_number(const struct node *n)
{
	return n == n->fs->root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)n;
}

static uint64_t inode_of(const struct row *row, const struct fork *f, const struct shot *s, int key)
{
	uint64_t serial = s ? s->serial : f ? f->serial : ROOT_SERIAL;

	return serial << 8 | (uint64_t)(key >= 0 ? KEY_BASE + key : row - table);
}

static struct node *find_again(struct fs *fs, uint64_t inode)
{
	struct node like = { .inode = inode };
	void *at = tfind(&like, &fs->nodes, by_inode);

	return at ? *(struct node **)at : NULL;
}

static int node_make(struct fs *fs, const struct row *row, struct fork *f, struct shot *s, int key, struct node **ret)
{
	uint64_t inode = inode_of(row, f, s, key);
	struct node *n = row->waits ? NULL : find_again(fs, inode);

	if (n) {
		n->lookups++;
		*ret = n;
		return 0;
	}
	n = calloc(1, sizeof *n);
	if (!n)
		return -ENOMEM;
	*n = (struct node){ .inode = inode, .row = row, .fs = fs, .key = key, .lookups = 1, .found_again = !row->waits };
	if (n->found_again && !tsearch(n, &fs->nodes, by_inode)) {
		free(n);
		return -ENOMEM;
	}
	list_append(&fs->all_nodes, &n->link);
	n->fork = f ? fork_ref(f) : NULL;
	n->shot = s ? shot_ref(s) : NULL;
	*ret = n;
	return 0;
}

/* The kernel forgets none that is open: the releases of these were lost, for want of memory. */
static void close_files(struct node *n)
{
	struct file *f, *next;

	for (f = list_first(&n->fs->files, struct file, link); f && n->files; f = next) {
		next = f->link.next == &n->fs->files ? NULL : container_of(f->link.next, struct file, link);
		if (f->node == n)
			file_close(f);
	}
}

void node_forget(struct node *n, uint64_t lookups)
{
	if (n == n->fs->root)
		return;
	n->lookups -= lookups < n->lookups ? lookups : n->lookups;
	if (n->lookups)
		return;
	close_files(n);
	list_remove(&n->link);
	if (n->found_again)
		tdelete(n, &n->fs->nodes, by_inode);
	fork_unref(n->fork);
	shot_unref(n->shot);
	free(n);
}

int node_create_root(struct fs *fs)
{
	return node_make(fs, &table[ROW_ROOT], NULL, NULL, -1, &fs->root);
}

int node_of_fork(struct fs *fs, struct fork *f, struct node **ret)
{
	return node_make(fs, &table[ROW_FORK], f, NULL, -1, ret);
}

int node_of_shot(struct fs *fs, struct shot *s, struct node **ret)
{
	return node_make(fs, &table[ROW_SHOT], s->fork, s, -1, ret);
}

static const struct row *find_row(enum place place, const char *name)
{
	for (size_t i = 0; i < table_rows; i++)
		if (table[i].place == place && !strcmp(table[i].name, name))
			return &table[i];
	return NULL;
}

static const struct row *key_row(enum place place)
{
	for (size_t i = 0; i < table_rows; i++)
		if (table[i].place == place)
			return &table[i];
	return NULL;
}

static int lookup_key(struct node *dir, const char *name, struct node **ret)
{
	int key = config_find(name);

	if (key < 0 || (dir->fork && key >= CONFIG_FORK_COUNT))
		return -ENOENT;
	return node_make(dir->fs, key_row(dir->row->inside), dir->fork, NULL, key, ret);
}

static int lookup_fork(struct fs *fs, const char *name, struct node **ret)
{
	struct fork *f = fork_find(fs->forks, name);

	return f ? node_of_fork(fs, f, ret) : -ENOENT;
}

static int lookup_shot(struct node *dir, const char *name, struct node **ret)
{
	struct shot *s = fork_shot(dir->fork, name);

	return s ? node_of_shot(dir->fs, s, ret) : -ENOENT;
}

/* What was removed is gone for everybody who still stands in it. */
static bool is_gone(const struct node *n)
{
	return (n->fork && n->fork->removed) || (n->shot && !n->shot->fork);
}

int node_lookup(struct node *parent, const char *name, struct node **ret)
{
	enum place place = parent->row->inside;
	const struct row *row;

	if (is_gone(parent))
		return -ENOENT;
	if (place == PLACE_CONFIG || place == PLACE_FORK_CONFIG)
		return lookup_key(parent, name, ret);
	if (place == PLACE_SNAPSHOTS)
		return lookup_shot(parent, name, ret);
	row = find_row(place, name);
	if (row)
		return node_make(parent->fs, row, parent->fork, parent->shot, -1, ret);
	return place == PLACE_ROOT ? lookup_fork(parent->fs, name, ret) : -ENOENT;
}

/* A fork's directory says who may do what in it: a class that may read the directory may read the files, one that may write it may write them. */
static mode_t shared_mode(mode_t mode, mode_t dir)
{
	mode_t out = mode & (S_IFMT | 0700);

	for (int shift = 3; shift <= 6; shift += 3) {
		mode_t class = (dir << shift) & 0700;

		if (class & 0400)
			out |= ((mode & 0500) & (S_ISDIR(mode) ? class : 0400)) >> shift;
		if (class & 0200)
			out |= (mode & 0200) >> shift;
	}
	return out;
}

static mode_t node_mode(const struct node *n)
{
	mode_t mode = n->row->mode;

	if (n->row == &table[ROW_FORK])
		return S_IFDIR | n->fork->mode;
	if (n->row == &table[ROW_ROOT])
		return S_IFDIR | (n->fs->allow_other ? 01777 : 0755);
	if (!n->fork)
		return mode;
	if (n->row->kind == &mem_kind && !config_number(&n->fork->config, CONFIG_MEM_WRITE))
		mode &= ~(mode_t)0200;
	return shared_mode(mode, n->fork->mode);
}

bool node_writable(const struct node *n)
{
	return node_mode(n) & 0222;
}

void node_stat(const struct node *n, struct stat *st)
{
	const struct fork *f = n->fork;

	*st = (struct stat){
		.st_ino = n->inode,
		.st_mode = node_mode(n),
		.st_nlink = S_ISDIR(n->row->mode) ? 2 : 1,
		.st_uid = f ? f->uid : n->fs->forks->owner,
		.st_gid = f ? f->gid : getegid(),
		.st_blksize = 4096,
		.st_mtim = n->shot ? n->shot->made : f ? f->changed : n->fs->changed,
	};
	if (n->row->kind && n->row->kind->stat)
		n->row->kind->stat(n, st);
	st->st_atim = st->st_ctim = st->st_mtim;
}

struct listing {
	void (*each)(void *data, const char *name, uint64_t inode, mode_t mode);
	void *data;
};

static void list_keys(const struct node *dir, const struct listing *l)
{
	const struct row *row = key_row(dir->row->inside);

	for (int i = 0; i < (dir->fork ? CONFIG_FORK_COUNT : CONFIG_COUNT); i++)
		l->each(l->data, config_keys[i].name, inode_of(row, dir->fork, NULL, i), row->mode);
}

static void list_shots(const struct node *dir, const struct listing *l)
{
	struct shot *s;

	list_for_each(s, &dir->fork->shots, link)
		l->each(l->data, s->name, inode_of(&table[ROW_SHOT], dir->fork, s, -1), S_IFDIR);
}

static void list_rows(const struct node *dir, const struct listing *l)
{
	for (size_t i = 0; i < table_rows; i++)
		if (table[i].place == dir->row->inside)
			l->each(l->data, table[i].name, inode_of(&table[i], dir->fork, dir->shot, -1), table[i].mode);
}

static void list_forks(const struct node *dir, const struct listing *l)
{
	struct fork *f;

	list_for_each(f, &dir->fs->forks->list, link)
		l->each(l->data, f->id, inode_of(&table[ROW_FORK], f, NULL, -1), S_IFDIR);
}

void node_list(struct node *dir, void (*each)(void *data, const char *name, uint64_t inode, mode_t mode), void *data)
{
	struct listing l = { each, data };
	enum place place = dir->row->inside;

	if (is_gone(dir))
		return;
	if (place == PLACE_CONFIG || place == PLACE_FORK_CONFIG) {
		list_keys(dir, &l);
		return;
	}
	if (place == PLACE_SNAPSHOTS) {
		list_shots(dir, &l);
		return;
	}
	list_rows(dir, &l);
	if (place == PLACE_ROOT)
		list_forks(dir, &l);
}
