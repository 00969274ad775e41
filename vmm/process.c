/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "vmm/aside.h"
#include "vmm/base/log.h"
#include "vmm/cgroup.h"
#include "vmm/scheduling.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

#define STACK_SIZE (256u << 10)
#define SIGNAL_SET_SIZE 8 /* bytes of the kernel's sigset_t */

/* What parent and child share while the child runs in the parent's memory, up to exec(2). Everything that the child needs is made before the
 * clone: it only makes system calls. */
struct launch {
	const struct process_spec *spec;
	const char *program;
	int null;
	int opens_to; /* a socket that the listener is sent through, -1: none is wanted */
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(sizeof(size_t))));
	int *listener; /* in there */
	struct iovec iov;
	struct msghdr message;
	struct sched_attributes schedule;
	struct rlimit64 core, limits[PROCESS_LIMITS];
	struct __user_cap_header_struct cap_header;
	struct __user_cap_data_struct cap_data[_LINUX_CAPABILITY_U32S_3];
	/* the child's answer */
	const char *step;
	int error;
};

static const uint64_t empty_set;
static const unsigned long default_action[4]; /* the kernel's struct sigaction: SIG_DFL, no flags */

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#endif

#define NOTIFY BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF)
#define UNLESS(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1)

/* The opens are asked about. What an open of /dev/net/tun gives has an interface already: that it gets one is taken for done, and nobody gets another. All else is as it was. */
static const struct sock_filter opens_filter[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCH, 1, 0),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#ifdef SYS_open
	UNLESS(SYS_open),
	NOTIFY,
#endif
	UNLESS(SYS_openat),
	NOTIFY,
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
	UNLESS(TUNSETIFF),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 0),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};
static const struct sock_fprog opens_program = { ARRAY_LEN(opens_filter), (struct sock_filter *)(uintptr_t)opens_filter };

IN_CHILD static bool did(struct launch *l, const char *step, long result)
{
	if (result >= 0)
		return true;
	l->error = errno;
	l->step = step;
	return false;
}

/* A handler must not run in the parent's memory, so all are gone before the mask is. */
IN_CHILD static bool reset_signals(struct launch *l)
{
	for (int sig = 1; sig < _NSIG; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			syscall(SYS_rt_sigaction, sig, default_action, NULL, SIGNAL_SET_SIZE);
	return did(l, "reset the signal mask", syscall(SYS_rt_sigprocmask, SIG_SETMASK, &empty_set, NULL, SIGNAL_SET_SIZE));
}

IN_CHILD static bool keep_descriptors(struct launch *l)
{
	const struct process_spec *s = l->spec;

	if (!did(l, "mark descriptors to close", syscall(SYS_close_range, 3u, UINT_MAX, CLOSE_RANGE_CLOEXEC)) ||
	    !did(l, "set up stdout", syscall(SYS_dup2, s->streams ? s->streams[1] : s->output, 1)) || !did(l, "set up stderr", syscall(SYS_dup2, s->output, 2)) ||
	    !did(l, "set up stdin", syscall(SYS_dup2, s->streams ? s->streams[0] : l->null, 0)))
		return false;
	for (int fd = 0; fd < 3; fd++) /* dup2 to itself leaves the flag */
		if (!did(l, "keep a standard stream", syscall(SYS_fcntl, fd, F_SETFD, 0L)))
			return false;
	for (size_t i = 0; i < s->fd_count; i++)
		if (!did(l, "keep a descriptor", syscall(SYS_fcntl, s->fds[i], F_SETFD, 0L)))
			return false;
	return true;
}

IN_CHILD static bool limit(struct launch *l)
{
	for (int i = 0; i < PROCESS_LIMITS; i++)
		if (l->spec->limits[i].max && !did(l, "limit it", syscall(SYS_prlimit64, 0, l->spec->limits[i].resource, &l->limits[i], NULL)))
			return false;
	/* A core would hold the guest's memory. */
	return did(l, "forbid core files", syscall(SYS_prlimit64, 0, RLIMIT_CORE, &l->core, NULL)) &&
	       did(l, "set no_new_privs", syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L));
}

/* An older kernel has no such thing. */
IN_CHILD static void set_slice(struct launch *l)
{
	if (l->spec->slice)
		syscall(SYS_sched_setattr, 0, &l->schedule, 0);
}

/* Before it is anybody else, who may not. */
IN_CHILD static bool join_groups(struct launch *l)
{
	for (int i = 0; l->spec->groups && i < CGROUP_PLACES; i++)
		if (l->spec->groups[i] >= 0 && !did(l, "join its control group", syscall(SYS_write, l->spec->groups[i], "0", 1)))
			return false;
	return true;
}

/* Before it has dropped its privileges or after makes no difference; the rules are of what it can still open by name. */
IN_CHILD static bool confine(struct launch *l)
{
	return !l->spec->files || l->spec->files->ruleset < 0 ||
	       did(l, "confine it to its files", syscall(SYS_landlock_restrict_self, l->spec->files->ruleset, 0));
}

/* It takes the privileges. */
IN_CHILD static bool change_root(struct launch *l)
{
	return !l->spec->files || l->spec->files->root < 0 || did(l, "change its root directory", syscall(SYS_setns, l->spec->files->root, CLONE_NEWNS));
}

/* libc's wrappers would change every thread of the daemon. */
IN_CHILD static bool drop(struct launch *l)
{
	const struct process_spec *s = l->spec;

	if (s->netns >= 0 && !did(l, "join the network namespace", syscall(SYS_setns, s->netns, CLONE_NEWNET)))
		return false;
	if (!s->drop)
		return true;
	return did(l, "drop the groups", syscall(SYS_setgroups, 0, NULL)) &&
	       did(l, "become the gid", syscall(SYS_setresgid, s->gid, s->gid, s->gid)) &&
	       did(l, "become the uid", syscall(SYS_setresuid, s->uid, s->uid, s->uid)) &&
	       did(l, "drop the capabilities", syscall(SYS_capset, &l->cap_header, l->cap_data));
}

/* Last, for from here on whatever this process opens waits for an answer. The listener is open in here, too. */
IN_CHILD static bool ask_for_opens(struct launch *l)
{
	long listener;

	if (l->opens_to < 0)
		return true;
	listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &opens_program);
	if (!did(l, "have its opens asked about", listener) || !did(l, "keep a descriptor", syscall(SYS_fcntl, listener, F_SETFD, 0L)))
		return false;
	*l->listener = (int)listener;
	return did(l, "hand over a descriptor", syscall(SYS_sendmsg, l->opens_to, &l->message, MSG_NOSIGNAL));
}

/* No local of this function or of those above has its address taken: the stack is unmapped without a return, and a sanitizer's marks would stay. */
IN_CHILD static int child(void *data)
{
	struct launch *l = data;

	syscall(SYS_umask, 077);
	set_slice(l);
	if (reset_signals(l) && did(l, "start a session", syscall(SYS_setsid)) && did(l, "leave the directory", syscall(SYS_chdir, "/")) &&
	    keep_descriptors(l) && limit(l) && join_groups(l) && change_root(l) && drop(l) && confine(l) && ask_for_opens(l))
		did(l, "exec", syscall(SYS_execve, l->program, l->spec->argv, l->spec->envp));
	syscall(SYS_exit, 127);
	__builtin_unreachable();
}

/* Returns 0 and the program's path in `ret`. */
static int find_program(const char *name, char *ret, size_t n, struct failure *why)
{
	const char *path = getenv("PATH") ?: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

	if (strchr(name, '/')) {
		if ((size_t)snprintf(ret, n, "%s", name) >= n)
			return fail_errno(why, ENAMETOOLONG, "%s", name);
		return 0;
	}
	for (; *path; path += strspn(path, ":")) {
		int len = (int)strcspn(path, ":");

		if (*path == '/' && (size_t)snprintf(ret, n, "%.*s/%s", len, path, name) < n && !access(ret, X_OK))
			return 0;
		path += len;
	}
	return fail(why, ENOENT, "no program %s in PATH", name);
}

/* "1234 (any) thing)) S …": the name in parentheses may hold anything, so the fields are counted from the last one. */
static int stat_field(pid_t pid, int wanted, uint64_t *ret)
{
	char path[64], buf[1024], *at;
	AUTO_CLOSE int fd = -1;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, sizeof buf - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	at = strrchr(buf, ')');
	for (int field = 2; at && field < wanted; field++)
		at = strchr(at + 1, ' ');
	if (!at)
		return -EIO;
	*ret = strtoull(at + 1, NULL, 10);
	return 0;
}

int process_start_time(pid_t pid, uint64_t *ret)
{
	return stat_field(pid, 22, ret);
}

/* Those of a former daemon, whose parent is another by now. */
static struct {
	pthread_mutex_t lock;
	struct {
		pid_t pid;
		uint64_t start_time;
	} *list;
	size_t count;
} adopted = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int note_adopted(const struct process *p)
{
	void *more;

	pthread_mutex_lock(&adopted.lock);
	more = realloc(adopted.list, (adopted.count + 1) * sizeof *adopted.list);
	if (more) {
		adopted.list = more;
		adopted.list[adopted.count].pid = p->pid;
		adopted.list[adopted.count++].start_time = p->start_time;
	}
	pthread_mutex_unlock(&adopted.lock);
	return more ? 0 : -ENOMEM;
}

static void forget_adopted(const struct process *p)
{
	pthread_mutex_lock(&adopted.lock);
	for (size_t i = 0; i < adopted.count; i++)
		if (adopted.list[i].pid == p->pid && adopted.list[i].start_time == p->start_time)
			adopted.list[i] = adopted.list[--adopted.count];
	if (!adopted.count)
		free_ptr(&adopted.list);
	pthread_mutex_unlock(&adopted.lock);
}

static bool is_adopted(pid_t pid)
{
	uint64_t start;
	bool is = false;

	if (process_start_time(pid, &start) < 0)
		return false;
	pthread_mutex_lock(&adopted.lock);
	for (size_t i = 0; i < adopted.count; i++)
		is = is || (adopted.list[i].pid == pid && adopted.list[i].start_time == start);
	pthread_mutex_unlock(&adopted.lock);
	return is;
}

bool process_is_ours(pid_t pid)
{
	uint64_t parent;

	return pid == getpid() || (stat_field(pid, 4, &parent) == 0 && (pid_t)parent == getpid()) || is_adopted(pid);
}

int process_adopt(struct process *ret, pid_t pid, uint64_t start_time)
{
	AUTO_CLOSE int pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;
	uint64_t start;
	int r;

	if (pidfd < 0)
		return pid > 0 ? -errno : -ESRCH;
	r = process_start_time(pid, &start); /* of that one: the number can't be another's as long as the descriptor is alive */
	if (r < 0 || start != start_time)
		return r < 0 && r != -ENOENT ? r : -ESRCH;
	if (poll(&(struct pollfd){ pidfd, POLLIN, 0 }, 1, 0) > 0) /* nobody has reaped it yet */
		return -ESRCH;
	r = note_adopted(&(struct process){ .pid = pid, .start_time = start_time });
	if (r < 0)
		return r;
	*ret = (struct process){ .pid = pid, .pidfd = steal_fd(&pidfd), .start_time = start_time, .adopted = true };
	return 0;
}

static int open_null(void)
{
	AUTO_CLOSE int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	int high;

	if (fd < 0)
		return -errno;
	high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return high < 0 ? -errno : high;
}

/* The child runs in our memory on a stack of its own, while this thread waits for its exec. No signal may reach it before its handlers are gone. */
static int run_child(struct launch *l, pid_t *ret_pid, int *ret_pidfd)
{
	char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	sigset_t all, old;
	int pid, r, pidfd = -1;

	if (stack == MAP_FAILED)
		return -errno;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid = clone(child, stack + STACK_SIZE, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, l, &pidfd);
	r = pid < 0 ? -errno : 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	munmap(stack, STACK_SIZE);
	if (r < 0)
		return r;
	*ret_pid = pid;
	*ret_pidfd = pidfd;
	return 0;
}

static int check_descriptors(const struct process_spec *spec, struct failure *why)
{
	for (size_t i = 0; i < spec->fd_count; i++)
		if (spec->fds[i] < 3)
			return fail(why, EINVAL, "descriptor %d can't be handed to %s", spec->fds[i], spec->path);
	return 0;
}

/* What the daemon has itself may not be raised, by who has no CAP_SYS_RESOURCE. */
static struct rlimit64 bound(const struct process_limit *limit)
{
	struct rlimit own;
	rlim_t max = limit->max;

	if (max && !getrlimit((__rlimit_resource_t)limit->resource, &own) && own.rlim_max < max)
		max = own.rlim_max;
	return (struct rlimit64){ max, max };
}

static void prepare(struct launch *l, const struct process_spec *spec, const char *program)
{
	*l = (struct launch){
		.spec = spec,
		.program = program,
		.schedule = { .size = sizeof l->schedule, .nice = getpriority(PRIO_PROCESS, 0), .runtime = spec->slice },
		.cap_header = { .version = _LINUX_CAPABILITY_VERSION_3 },
		.opens_to = -1,
	};
	for (int i = 0; i < PROCESS_LIMITS; i++)
		l->limits[i] = bound(&spec->limits[i]);
	l->iov = (struct iovec){ l->control, 1 }; /* any byte */
	l->message = (struct msghdr){ .msg_iov = &l->iov, .msg_iovlen = 1, .msg_control = l->control, .msg_controllen = sizeof l->control };
	*CMSG_FIRSTHDR(&l->message) = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
	l->listener = (int *)(void *)CMSG_DATA(CMSG_FIRSTHDR(&l->message));
}

/* What the child sent before it began. Returns the descriptor or a negative errno. */
static int take_opens(int socket_fd)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr head;
	} control;
	struct iovec iov = { &(char){ 0 }, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	int fd = -1;

	if (recvmsg(socket_fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) < 0)
		return -errno;
	if (CMSG_FIRSTHDR(&m))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	return fd < 0 ? -EMFILE : fd;
}

static void reap(pid_t pid, int pidfd)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	close_fd(&pidfd);
}

/* One that can't be had is none. */
static void set_oom_score(pid_t pid, int more)
{
	char path[64], value[16] = "";
	AUTO_CLOSE int own = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC), its = -1;
	int score;

	snprintf(path, sizeof path, "/proc/%d/oom_score_adj", (int)pid);
	its = open(path, O_WRONLY | O_CLOEXEC);
	if (own < 0 || its < 0 || read(own, value, sizeof value - 1) < 0)
		return;
	score = atoi(value) + more;
	snprintf(value, sizeof value, "%d", score < 1000 ? score : 1000);
	if (write(its, value, strlen(value)) < 0)
		log_debug("%s: %m", path);
}

static int spawn(struct process *p, struct launch *l, int opens, struct failure *why)
{
	int r = run_child(l, &p->pid, &p->pidfd);

	if (r < 0)
		return fail_errno(why, -r, "start %s", l->program);
	if (l->error) {
		reap(p->pid, p->pidfd);
		return fail_errno(why, l->error, "start %s: %s", l->program, l->step);
	}
	if (l->spec->oom_score)
		set_oom_score(p->pid, l->spec->oom_score);
	r = process_start_time(p->pid, &p->start_time);
	if (r < 0)
		fail_errno(why, -r, "read /proc/%d/stat", (int)p->pid);
	if (r == 0 && l->spec->ret_opens) {
		r = take_opens(opens);
		if (r < 0)
			fail_errno(why, -r, "be asked about what %s opens", l->program);
		else
			*l->spec->ret_opens = r;
	}
	if (r >= 0)
		return 0;
	process_kill(p);
	reap(p->pid, p->pidfd);
	return r;
}

int process_spawn(struct process *ret, const struct process_spec *spec, struct failure *why)
{
	AUTO_CLOSE int null = -1, opens = -1, opens_to = -1;
	struct process p = { .pidfd = -1 };
	char program[PATH_MAX];
	struct launch l;
	int r, pair[2];

	r = check_descriptors(spec, why);
	if (r < 0)
		return r;
	r = find_program(spec->path, program, sizeof program, why);
	if (r < 0)
		return r;
	null = open_null();
	if (null < 0)
		return fail_errno(why, -null, "open /dev/null");
	if (spec->ret_opens && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return fail_errno(why, errno, "a socket for %s", program);
	if (spec->ret_opens) {
		opens = pair[0];
		opens_to = pair[1];
	}
	prepare(&l, spec, program);
	l.null = null;
	l.opens_to = opens_to;
	r = spawn(&p, &l, opens, why);
	if (r == 0)
		*ret = p;
	return r;
}

/* linux/pidfd.h since 6.13 and 6.15. */
struct pidfd_information {
	uint64_t mask, cgroup;
	uint32_t pid, tgid, ppid, ids[8];
	int32_t exit_code; /* as wait(2)'s status */
};
#define PIDFD_EXIT (1ull << 3)
#define PIDFD_GET_INFORMATION _IOWR(0xff, 11, struct pidfd_information)

/* An adopted process is not our child: how it ended is in /proc until whoever is its parent now has reaped it, and then the kernel may tell by the descriptor. */
static void look_at_end(const struct process *p, siginfo_t *how)
{
	struct pidfd_information info = { .mask = PIDFD_EXIT };
	uint64_t status;

	if (!ioctl(p->pidfd, PIDFD_GET_INFORMATION, &info) && (info.mask & PIDFD_EXIT))
		status = (uint64_t)info.exit_code;
	else if (stat_field(p->pid, 52, &status) < 0 || syscall(SYS_pidfd_send_signal, p->pidfd, 0, NULL, 0))
		return; /* it is reaped: the number may be another's */
	how->si_code = WIFEXITED((int)status) ? CLD_EXITED : CLD_KILLED;
	how->si_status = WIFEXITED((int)status) ? WEXITSTATUS((int)status) : WTERMSIG((int)status);
}

static int on_pidfd(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct process *p = data;
	siginfo_t how = { 0 };

	(void)revents;
	if (waitid(P_PIDFD, (id_t)fd, &how, WEXITED | WNOHANG) < 0) {
		if (errno != ECHILD)
			return 0;
		look_at_end(p, &how);
	} else if (!how.si_pid) {
		return 0;
	}
	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	p->exited(p, &how, p->data);
	return 0;
}

int process_watch(struct process *p, sd_event *event, void (*exited)(struct process *, const siginfo_t *, void *), void *data)
{
	p->exited = exited;
	p->data = data;
	return sd_event_add_io(event, &p->source, p->pidfd, EPOLLIN, on_pidfd, p);
}

void process_kill(struct process *p)
{
	if (p->pid && p->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, p->pidfd, SIGKILL, NULL, 0);
}

/* One that isn't ours to reap is told as gone by its descriptor alone. */
void process_end(struct process *p)
{
	process_kill(p);
	if (waitid(P_PID, (id_t)p->pid, &(siginfo_t){ 0 }, WEXITED) < 0 && errno == ECHILD)
		poll(&(struct pollfd){ p->pidfd, POLLIN, 0 }, 1, -1);
	process_finish(p);
}

void process_finish(struct process *p)
{
	if (!p->pid)
		return;
	p->source = sd_event_source_disable_unref(p->source);
	close_fd(&p->pidfd);
	if (p->adopted)
		forget_adopted(p);
	p->pid = 0;
}

char *process_exit_text(const siginfo_t *how, char *buf, size_t n)
{
	if (how->si_code == CLD_EXITED)
		snprintf(buf, n, "ended with status %d", how->si_status);
	else if (how->si_code == CLD_KILLED || how->si_code == CLD_DUMPED)
		snprintf(buf, n, "was killed by signal %d (%s)", how->si_status, strsignal(how->si_status) ?: "unknown");
	else
		snprintf(buf, n, "ended, how is unknown");
	return buf;
}
