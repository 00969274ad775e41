/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/events_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/io.h"
#include "vmm/base/log.h"

#define NEW "events"
#define OLD "events.old" /* when the new one is half of all they change places */

/* A line that was cut short, or is none of ours, is passed over. Returns how many lines there are; *ret_cut: the last one has no end. */
static uint64_t read_lines(int dir, const char *name, bool *ret_cut, void (*found)(uid_t uid, const char *line, size_t len, void *data), void *data)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	AUTO_FREE char *line = NULL;
	uint64_t lines = 0;
	size_t size = 0;
	ssize_t n;

	*ret_cut = false;
	if (!f) {
		close_fd(&fd);
		return 0;
	}
	for (; (n = getline(&line, &size, f)) > 0; lines++) {
		char *end;
		unsigned long uid = strtoul(line, &end, 10);

		*ret_cut = line[n - 1] != '\n';
		if (!*ret_cut && end != line && end[0] == '\t' && end[1] == '{')
			found((uid_t)uid, end + 1, (size_t)(line + n - end - 1), data);
	}
	fclose(f);
	return lines;
}

static int open_new(struct events_file *f)
{
	f->fd = openat(f->dir, NEW, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	return f->fd < 0 ? -errno : 0;
}

int events_file_open(struct events_file *f, int dir, void (*found)(uid_t uid, const char *line, size_t len, void *data), void *data)
{
	*f = EVENTS_FILE_NONE;
	f->dir = dir;
	read_lines(dir, OLD, &f->cut, found, data);
	f->lines = read_lines(dir, NEW, &f->cut, found, data);
	return open_new(f);
}

static int turn_over(struct events_file *f)
{
	close_fd(&f->fd);
	f->lines = 0;
	f->cut = false;
	return renameat(f->dir, NEW, f->dir, OLD) && errno != ENOENT ? -errno : open_new(f);
}

void events_file_add(struct events_file *f, uint64_t max, uid_t uid, const char *line)
{
	AUTO_FREE char *text = NULL;
	int n, r = 0;

	if (f->dir < 0)
		return;
	if (f->fd < 0 || f->lines >= max)
		r = turn_over(f);
	n = r < 0 ? 0 : asprintf(&text, "%s%u\t%s", f->cut ? "\n" : "", (unsigned int)uid, line);
	if (n < 0) {
		text = NULL;
		r = -ENOMEM;
	} else if (r == 0) {
		r = write_all(f->fd, text, (size_t)n);
		f->cut = r < 0;
		f->lines++;
	}
	if (r < 0 && !f->failing)
		log_info("events can't be kept for the next daemon: %s", strerror(-r));
	f->failing = r < 0;
}

void events_file_close(struct events_file *f)
{
	close_fd(&f->fd);
	f->dir = -1;
}

void events_file_remove(int dir)
{
	unlinkat(dir, NEW, 0);
	unlinkat(dir, OLD, 0);
}
