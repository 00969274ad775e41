/* SPDX-License-Identifier: Apache-2.0
 *
 * The daemon: mounts, turns the loop, ends. */
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <syslog.h>

#include "fs/fs.h"
#include "fs/options.h"
#include "vmm/base/log.h"
#include "vmm/paths.h"

#define REQUESTS_A_TURN 64
#define ADOPTION_MAX_US 5000000 /* how long the mount waits for the VMs of a former daemon */
#define END_MAX_US 20000000 /* how long the end waits for VMs to go */

struct daemon {
	struct options options;
	sd_event *event;
	struct forks *forks;
	struct fs *fs;
	struct fuse_session *session;
	struct fuse_buf buf;
	bool ending;
	int parent; /* who waits for the mount to stand, -1 nobody */
	struct listener forks_changed;
};

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void to_syslog(enum log_level level, const char *line)
{
	static const int priority[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

	syslog(priority[level], "%s", line);
}

static void check_end(struct daemon *d)
{
	if (!d->ending || !forks_gone(d->forks))
		return;
	if (d->options.keep)
		forks_leave(d->forks);
	sd_event_exit(d->event, 0);
}

static void on_forks_changed(struct listener *l)
{
	check_end(container_of(l, struct daemon, forks_changed));
}

static int end_overdue(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	(void)data;
	log_error("a VM doesn't go: the daemon ends without it");
	return sd_event_exit(sd_event_source_get_event(source), 1);
}

static void begin_end(struct daemon *d)
{
	if (d->ending)
		return;
	d->ending = true;
	if (d->options.keep)
		forks_keep(d->forks);
	else
		forks_end(d->forks);
	sd_event_add_time_relative(d->event, NULL, CLOCK_MONOTONIC, END_MAX_US, 0, end_overdue, d);
	check_end(d);
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *data)
{
	(void)source;
	log_info("ending: %s", strsignal((int)info->ssi_signo));
	begin_end(data);
	return 0;
}

/* The mount is gone: by umount(8), or the connection was aborted. */
static void unmounted(struct daemon *d)
{
	d->fs->source = sd_event_source_disable_unref(d->fs->source);
	begin_end(d);
}

static int on_request(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct daemon *d = data;

	(void)source;
	(void)fd;
	(void)revents;
	for (int i = 0; i < REQUESTS_A_TURN; i++) {
		int r = fuse_session_receive_buf(d->session, &d->buf);

		if (r == -EINTR)
			continue;
		if (r == -EAGAIN)
			return 0;
		if (r > 0) {
			d->fs->arrived = now_us();
			fuse_session_process_buf(d->session, &d->buf);
		}
		if (r <= 0 || fuse_session_exited(d->session)) {
			unmounted(d);
			return 0;
		}
	}
	return 0;
}

/* In /proc/self/mountinfo white space and backslashes are \ooo. */
static void decode(char *s)
{
	char *to = s;
	unsigned int c;

	for (; *s; *to++ = (char)c)
		if (sscanf(s, "\\%3o", &c) == 1)
			s += 4;
		else
			c = (unsigned char)*s++;
	*to = '\0';
}

/* The device of our mount, without asking the mount itself: nobody answers yet. */
static dev_t mount_device(const char *mountpoint)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[8192], at[4096];
	unsigned int major, minor;
	dev_t found = 0;

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%*d %*d %u:%u %*s %4095s", &major, &minor, at) == 3) {
			decode(at);
			found = strcmp(at, mountpoint) ? found : makedev(major, minor);
		}
	if (f)
		fclose(f);
	return found;
}

/* For who isn't root, as libfuse does. */
static bool unmount_by_helper(const char *mountpoint)
{
	char *argv[] = { (char *)(uintptr_t)"fusermount3", (char *)(uintptr_t)"-uzq", (char *)(uintptr_t)"--", (char *)(uintptr_t)mountpoint, NULL };
	int status = -1;
	pid_t pid;

	return !posix_spawnp(&pid, *argv, NULL, NULL, argv, environ) && waitpid(pid, &status, 0) == pid && status == 0;
}

/* What a daemon that died left in place answers ENOTCONN. */
static void clear_dead_mount(const char *mountpoint)
{
	struct stat st;

	if (stat(mountpoint, &st) && errno == ENOTCONN && (!umount2(mountpoint, MNT_DETACH) || unmount_by_helper(mountpoint)))
		log_warn("%s: the mount of a daemon that died is cleared", mountpoint);
}

static int mount_it(struct daemon *d)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	char options[1024];
	int r;

	snprintf(options, sizeof options, "-ofsname=%s,subtype=forkfs,default_permissions%s%s%s", d->options.source,
		 d->options.allow_other ? ",allow_other" : "", d->options.mount && *d->options.mount ? "," : "", d->options.mount ?: "");
	r = fuse_opt_add_arg(&args, "forkfs") || fuse_opt_add_arg(&args, options) || (d->options.debug && fuse_opt_add_arg(&args, "-d"));
	if (!r)
		d->session = fuse_session_new(&args, &fs_ops, sizeof fs_ops, d->fs);
	fuse_opt_free_args(&args);
	if (!d->session)
		return -EINVAL;
	clear_dead_mount(d->options.mountpoint);
	if (fuse_session_mount(d->session, d->options.mountpoint))
		return -EIO;
	d->fs->session = d->session;
	paths_set_mount(mount_device(d->options.mountpoint));
	return 0;
}

/* The daemon is a child from the start, for neither the loop nor a thread outlives a fork. *ret is where it tells its parent that the mount stands; the parent
 * waits for that and returns here no more. */
static int detach(int *ret)
{
	int pipes[2];
	char byte;
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0) {
		close(pipes[1]);
		_exit(read(pipes[0], &byte, 1) == 1 ? 0 : 1);
	}
	close(pipes[0]);
	setsid();
	*ret = pipes[1];
	return 0;
}

/* The mount stands: the terminal is let go, and messages go to syslog from now on. */
static int tell_parent(struct daemon *d)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	ssize_t n;

	if (null < 0 || chdir("/"))
		return -errno;
	openlog("forkfs", LOG_PID, LOG_DAEMON);
	log_init(d->options.log, to_syslog);
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	n = write(d->parent, "", 1);
	close_fd(&d->parent);
	return n == 1 ? 0 : -EPIPE;
}

static int start_loop(struct daemon *d)
{
	sigset_t signals;
	int r;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	fcntl(fuse_session_fd(d->session), F_SETFL, O_NONBLOCK);
	r = sd_event_add_io(d->event, &d->fs->source, fuse_session_fd(d->session), EPOLLIN, on_request, d);
	for (int sig = 1; sig < 32 && r >= 0; sig++)
		if (sigismember(&signals, sig))
			r = sd_event_add_signal(d->event, NULL, sig, on_signal, d);
	listener_init(&d->forks_changed, on_forks_changed);
	list_append(&d->forks->listeners, &d->forks_changed.link);
	doctor_refresh(d->fs, NULL, NULL);
	return r;
}

/* Hundreds of forks hold hundreds of descriptors each in handfuls. */
static void raise_limits(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files))
		return;
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
}

static int adoption_overdue(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	*(bool *)data = true;
	return 0;
}

/* Whoever looks once the mount stands finds the VMs of a former daemon as they were; one that doesn't answer holds up nobody. */
static int await_adoption(struct daemon *d)
{
	sd_event_source *timer = NULL;
	bool overdue = false;
	int r = 0;

	if (!forks_adopted(d->forks))
		r = sd_event_add_time_relative(d->event, &timer, CLOCK_MONOTONIC, ADOPTION_MAX_US, 0, adoption_overdue, &overdue);
	while (r >= 0 && !overdue && !forks_adopted(d->forks))
		r = sd_event_run(d->event, UINT64_MAX);
	sd_event_source_disable_unref(timer);
	return r < 0 ? r : 0;
}

static int run(struct daemon *d, struct failure *why)
{
	int r;

	log_init(d->options.log, NULL);
	r = d->options.foreground ? 0 : detach(&d->parent);
	if (r < 0)
		return fail_errno(why, -r, "the daemon can't detach");
	r = sd_event_new(&d->event);
	if (r < 0)
		return fail_errno(why, -r, "no event loop");
	r = forks_create(&d->forks, d->event, d->options.state, &d->options.config, why);
	if (r < 0)
		return r;
	r = await_adoption(d);
	if (r < 0)
		return fail_errno(why, -r, "the VMs of the former daemon");
	r = fs_create(&d->fs, d->forks, d->options.allow_other);
	if (r < 0)
		return fail_errno(why, -r, "the filesystem can't start");
	r = mount_it(d);
	if (r < 0)
		return fail(why, -r, "%s: can't be mounted", d->options.mountpoint);
	r = start_loop(d);
	if (r < 0)
		return fail_errno(why, -r, "the loop can't start");
	r = d->options.foreground ? 0 : tell_parent(d);
	if (r < 0)
		return fail_errno(why, -r, "the daemon can't detach");
	return sd_event_loop(d->event);
}

static void finish(struct daemon *d)
{
	if (d->fs)
		fs_end(d->fs);
	if (d->fs && d->fs->source)
		d->fs->source = sd_event_source_disable_unref(d->fs->source);
	if (d->session)
		fuse_session_unmount(d->session); /* also when the mount is gone already: it frees what it knew of it */
	if (d->session)
		fuse_session_destroy(d->session);
	fs_destroy(d->fs);
	forks_destroy(d->forks);
	free(d->buf.mem);
	sd_event_unref(d->event);
	options_finish(&d->options);
}

int main(int argc, char **argv)
{
	struct daemon d = { .parent = -1 };
	struct failure why = { 0 };
	int r = options_parse(&d.options, argc, argv, &why);

	if (r < 0) {
		fprintf(stderr, "forkfs: %s\n", why.text);
	} else if (d.options.help) {
		fputs(options_help, stdout);
	} else if (d.options.version) {
		puts("forkfs " FORKFS_VERSION);
	} else {
		raise_limits();
		r = run(&d, &why);
		if (why.code)
			log_error("%s", why.text);
	}
	finish(&d);
	return r ? 1 : 0;
}
