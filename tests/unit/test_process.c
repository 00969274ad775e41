/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "vmm/landlock.h"
#include "vmm/leash.h"
#include "vmm/minimal_root.h"
#include "vmm/opens.h"
#include "vmm/process.h"
#include "vmm/scheduling.h"
#include "vmm/tap.h"

static char *const no_environment[] = { NULL };

/* Runs a command to its end; what it printed is in `out`. Returns how it ended. */
static siginfo_t run(struct process_spec spec, char *out, size_t n)
{
	AUTO_CLOSE int file = memfd_create("out", MFD_CLOEXEC);
	struct process p;
	struct failure why = { 0 };
	siginfo_t how = { 0 };
	ssize_t len;

	spec.output = file;
	spec.envp = spec.envp ?: no_environment;
	cr_assert_eq(process_spawn(&p, &spec, &why), 0, "%s", why.text);
	cr_assert_gt(p.start_time, 0);
	cr_assert_eq(waitid(P_PID, (id_t)p.pid, &how, WEXITED), 0);
	process_finish(&p);
	len = pread(file, out, n - 1, 0);
	out[len < 0 ? 0 : len] = '\0';
	return how;
}

/* exec(2) wants strings that it doesn't change. */
#define ARGV(...) ((char *const *)(uintptr_t)(const char *const[]){ __VA_ARGS__, NULL })
#define SHELL(text) .path = "/bin/sh", .argv = ARGV("sh", "-c", text), .netns = -1

Test(process, tells_output_and_status)
{
	char out[256], text[96];
	siginfo_t how = run((struct process_spec){ SHELL("echo out; echo err >&2; umask; pwd; read x; exit 3") }, out, sizeof out);

	cr_assert_str_eq(out, "out\nerr\n0077\n/\n");
	cr_assert_str_eq(process_exit_text(&how, text, sizeof text), "ended with status 3");
}

Test(process, tells_the_signal)
{
	char out[256], text[96];
	siginfo_t how = run((struct process_spec){ SHELL("kill -9 $$") }, out, sizeof out);

	cr_assert_str_eq(process_exit_text(&how, text, sizeof text), "was killed by signal 9 (Killed)");
}

Test(process, keeps_only_what_is_listed)
{
	int kept = fcntl(memfd_create("kept", MFD_CLOEXEC), F_DUPFD_CLOEXEC, 100);
	int leaked = fcntl(memfd_create("leaked", 0), F_DUPFD, 110);
	char out[1024];

	cr_assert(kept >= 100 && leaked >= 110);
	run((struct process_spec){ SHELL("ls /proc/$$/fd; :"), .fds = &kept, .fd_count = 1 }, out, sizeof out); /* a pipe would be its own, for a moment */
	cr_assert_str_eq(out, "0\n1\n100\n2\n");
}

static void make_file(char *path, const char *text)
{
	AUTO_CLOSE int fd = mkstemp(path);

	cr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

/* What it was handed it has all the same: its output is a file, too. */
Test(process, opens_by_name_only_what_it_may)
{
	char allowed[] = "/tmp/forkfs-test.XXXXXX", other[] = "/tmp/forkfs-test.XXXXXX", command[512], out[256];
	struct confinement files = CONFINEMENT_NONE;
	struct failure why = { 0 };

	if (!landlock_abi())
		cr_skip_test("this kernel has no Landlock");
	make_file(allowed, "mine,");
	make_file(other, "not mine,");
	cr_assert_eq(confinement_make(&files, &(struct allow){ allowed, -1, ALLOW_READ }, 1, &why), 0, "%s", why.text);
	snprintf(command, sizeof command, "cat %s; cat %s 2>&- || printf refused,; (printf x >>%s) 2>&- || printf unwritten,; kill -0 %d 2>&- || printf unsignalled",
		 allowed, other, allowed, (int)getpid());
	run((struct process_spec){ SHELL(command), .files = &files }, out, sizeof out);
	cr_assert_str_eq(out, landlock_abi() < 6 ? "mine,refused,unwritten," : "mine,refused,unwritten,unsignalled");
	confinement_finish(&files);
	unlink(allowed);
	unlink(other);
}

/* The same by a root directory. Nobody else's process is to be seen in it, and it goes with its process. */
Test(process, has_a_root_directory_of_what_it_may_open)
{
	char allowed[] = "/tmp/forkfs-test.XXXXXX", other[] = "/tmp/forkfs-test.XXXXXX", command[512], out[512];
	const struct allow list[] = { { "/usr", -1, 0 }, { "/lib", -1, 0 }, { "/lib64", -1, 0 }, { "/bin", -1, 0 }, { allowed, -1, ALLOW_READ }, { "/nowhere", -1, ALLOW_READ } };
	struct confinement files = CONFINEMENT_NONE;
	struct failure why = { 0 };

	if (!minimal_root_can())
		cr_skip_test("no mounts can be made here");
	make_file(allowed, "mine,");
	make_file(other, "not mine,");
	chmod(allowed, 0644);
	cr_assert_eq(minimal_root_make(&files.root, list, ARRAY_LEN(list), &why), 0, "%s", why.text);
	snprintf(command, sizeof command,
		 "cat %s; cat %s 2>&- || printf refused,; (printf x >>%s) 2>&- || printf unwritten,; mkdir /new 2>&- || printf unmade,; echo /* /proc/[0-9]* $$ %d | tr '\n' ' '",
		 allowed, other, allowed, (int)getpid());
	run((struct process_spec){ SHELL(command), .files = &files }, out, sizeof out);
	cr_assert(strstr(out, "mine,refused,unwritten,unmade,/bin /lib /lib64 /proc /tmp /usr "), "%s", out);
	run((struct process_spec){ SHELL("echo /proc/[0-9]* $$"), .files = &files, .drop = true, .uid = 12345, .gid = 12345 }, out, sizeof out);
	snprintf(command, sizeof command, "/proc/%d %d\n", atoi(out + strlen("/proc/")), atoi(out + strlen("/proc/")));
	cr_assert_str_eq(out, command);
	confinement_finish(&files);
	unlink(allowed);
	unlink(other);
}

Test(process, has_only_the_given_environment)
{
	char out[1024];

	run((struct process_spec){ .path = "env", .argv = ARGV("env"), .envp = ARGV("ONLY=this"), .netns = -1 }, out, sizeof out);
	cr_assert_str_eq(out, "ONLY=this\n");
}

Test(process, starts_with_no_signal_blocked_or_ignored)
{
	char out[4096];
	sigset_t all;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	run((struct process_spec){ .path = "cat", .argv = ARGV("cat", "/proc/self/status"), .netns = -1 }, out, sizeof out);
	cr_assert(strstr(out, "SigBlk:\t0000000000000000"));
	cr_assert(strstr(out, "SigIgn:\t0000000000000000"));
	cr_assert(strstr(out, "NoNewPrivs:\t1"));
}

Test(process, drops_everything)
{
	char out[4096];

	if (geteuid() != 0)
		cr_skip_test("needs root");
	run((struct process_spec){ .path = "cat", .argv = ARGV("cat", "/proc/self/status"), .netns = -1, .drop = true, .uid = 70001,
				   .gid = 70002 },
	    out, sizeof out);
	cr_assert(strstr(out, "Uid:\t70001\t70001\t70001\t70001\n"));
	cr_assert(strstr(out, "Gid:\t70002\t70002\t70002\t70002\n"));
	cr_assert(strstr(out, "Groups:\t \n") || strstr(out, "Groups:\t\n"));
	cr_assert(strstr(out, "CapEff:\t0000000000000000") && strstr(out, "CapPrm:\t0000000000000000"));
	cr_assert_eq(geteuid(), 0, "the daemon itself stays who it is");
}

Test(process, says_what_cannot_be_started)
{
	char *const *argv = ARGV("x");
	struct process p = { .pid = 77 };
	struct failure why;

	cr_assert_eq(process_spawn(&p, &(struct process_spec){ .path = "/no/such", .argv = argv, .envp = no_environment, .output = 2, .netns = -1 },
				   &why),
		     -ENOENT);
	cr_assert(strstr(why.text, "/no/such") && strstr(why.text, "exec"), "%s", why.text);
	cr_assert_eq(process_spawn(&p, &(struct process_spec){ .path = "no-such-name", .argv = argv, .envp = no_environment, .output = 2 }, &why),
		     -ENOENT);
	cr_assert_eq(process_spawn(&p, &(struct process_spec){ .path = "/etc/passwd", .argv = argv, .envp = no_environment, .output = 2, .netns = -1 },
				   &why),
		     -EACCES);
	cr_assert_eq(process_spawn(&p, &(struct process_spec){ .path = "true", .argv = argv, .envp = no_environment, .output = 2, .netns = 9999 }, &why),
		     -EBADF);
	cr_assert(strstr(why.text, "network namespace"), "%s", why.text);
	cr_assert_eq(p.pid, 77);
	cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1, "no zombie is left");
}

static void on_exited(struct process *p, const siginfo_t *how, void *data)
{
	(void)p;
	cr_assert_eq(how->si_status, SIGKILL);
	sd_event_exit(data, 42);
}

Test(process, is_watched_and_killed, .timeout = 20)
{
	sd_event *event = NULL;
	struct process p;

	sd_event_default(&event);
	cr_assert_eq(process_spawn(&p, &(struct process_spec){ SHELL("exec sleep 1000"), .envp = no_environment, .output = 2 }, NULL), 0);
	cr_assert_geq(process_watch(&p, event, on_exited, event), 0);
	process_kill(&p);
	cr_assert_eq(sd_event_loop(event), 42);
	process_kill(&p);
	process_finish(&p);
	process_finish(&p);
	sd_event_unref(event);
}

static int greet(const char *text, int *ret)
{
	*ret = memfd_create("greeting", MFD_CLOEXEC);
	cr_assert_eq(pwrite(*ret, text, strlen(text), 0), (ssize_t)strlen(text));
	return 0;
}

static unsigned int made, busy;

static int make(struct opens_work *w, const char *path, const atomic_bool *cancelled, int *ret)
{
	(void)w;
	cr_assert_not(atomic_load(cancelled));
	return strcmp(path, "/forkfs/made") ? -ENOSPC : greet("made\n", ret);
}

static void on_made(struct opens_work *w, int result, bool wanted)
{
	cr_assert(wanted && (result == 0 || result == -ENOSPC));
	made++;
	free(w);
}

static void on_busy(bool on, void *data)
{
	(void)data;
	cr_assert_eq(busy++ % 2, !on);
}

static int answer(const char *path, int flags, struct opens_answer *ret, void *data)
{
	unsigned int *asked = data;

	if (strncmp(path, "/forkfs/", 8))
		return OPENS_PASS;
	++*asked;
	cr_assert_eq(flags & O_ACCMODE, O_RDONLY);
	if (!strncmp(path, "/forkfs/made", 12)) {
		ret->work = malloc(sizeof *ret->work);
		*ret->work = (struct opens_work){ make, on_made };
		return OPENS_WORK;
	}
	return strcmp(path, "/forkfs/greeting") ? -EISDIR : greet("hello\n", &ret->fd);
}

static void on_asker_exited(struct process *p, const siginfo_t *how, void *data)
{
	(void)p;
	(void)how;
	sd_event_exit(data, 0);
}

/* Names that aren't there are answered by us, what is there the kernel opens, in all the processes that come of it. */
Test(process, asks_about_what_it_opens)
{
	AUTO_CLOSE int file = memfd_create("out", MFD_CLOEXEC);
	int listener = -1, before = dup(0);
	unsigned int asked = 0;
	struct opens o = { .fd = -1, .answer = answer, .busy = on_busy, .data = &asked };
	struct process p;
	struct failure why = { 0 };
	struct process_spec spec = { SHELL("read x </forkfs/greeting; echo $x; cat /forkfs/greeting; cat /forkfs/none; cat /proc/self/comm; cat /no/such; cat /forkfs/made /forkfs/made2"), .envp = no_environment,
				     .output = file, .ret_opens = &listener };
	sd_event *event;
	struct jobs *jobs;
	char out[512] = "";

	cr_assert_eq(sd_event_new(&event), 0);
	cr_assert_eq(process_spawn(&p, &spec, &why), 0, "%s", why.text);
	cr_assert_geq(listener, 0);
	cr_assert_eq(jobs_create(&jobs, event, 2), 0);
	cr_assert_eq(opens_init(&o, event, jobs, listener), 0);
	cr_assert_geq(process_watch(&p, event, on_asker_exited, event), 0);
	cr_assert_eq(sd_event_loop(event), 0);
	process_finish(&p);
	opens_finish(&o);
	jobs_destroy(jobs);
	sd_event_unref(event);
	cr_assert_geq(pread(file, out, sizeof out - 1, 0), 0);
	cr_assert_str_eq(out, "hello\nhello\ncat: /forkfs/none: Is a directory\ncat\ncat: /no/such: No such file or directory\nmade\n"
			    "cat: /forkfs/made2: No space left on device\n");
	cr_assert_eq(asked, 5);
	cr_assert(made == 2 && busy == 4);
	close(before);
	cr_assert_eq(dup(0), before, "a descriptor is left");
}

/* It has its interface: neither is there another one, nor is it the daemon's network namespace. */
Test(process, is_given_an_interface_that_leads_nowhere)
{
	AUTO_CLOSE int tap = -1, socket_here = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = { 0 };
	struct failure why = { 0 };
	char frame[1600] = "";
	int flags;

	if (geteuid() != 0 || access("/dev/net/tun", F_OK))
		cr_skip_test("needs root and /dev/net/tun");
	tap = tap_nowhere(&why);
	cr_assert_geq(tap, 0, "%s", why.text);
	cr_assert_eq(ioctl(tap, TUNGETIFF, &r), 0);
	flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	cr_assert_eq(r.ifr_flags & flags, flags);
	cr_assert_eq(write(tap, frame, sizeof frame), sizeof frame, "what a guest sends is taken");
	cr_assert(read(tap, frame, sizeof frame) < 0 && errno == EAGAIN, "it says something");
	cr_assert(ioctl(socket_here, SIOCGIFFLAGS, &r) && errno == ENODEV, "it is here");
	cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1, "no zombie is left");
}

Test(process, asks_about_nothing_of_a_program_that_is_not_there)
{
	int listener = -1;
	struct failure why = { 0 };
	struct process p;
	struct process_spec spec = { .path = "/no/such/program", .argv = ARGV("x"), .envp = no_environment, .output = 1, .netns = -1, .ret_opens = &listener };

	cr_assert_eq(process_spawn(&p, &spec, &why), -ENOENT);
	cr_assert_eq(listener, -1);
}

/* What a daemon's end does: the kernel closes what it had. Returns how a process on it ended. */
static siginfo_t end_daemon(bool released)
{
	struct failure why = { 0 };
	struct leash l = { -1, -1 };
	siginfo_t how = { 0 };
	struct process p;
	int out = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct process_spec spec = { SHELL("sleep 0.3; exit 3"), .envp = no_environment, .output = out, .fds = &l.theirs, .fd_count = 1 };

	cr_assert_eq(leash_make(&l), 0);
	cr_assert_eq(process_spawn(&p, &spec, &why), 0, "%s", why.text);
	cr_assert_eq(leash_hold(&l, p.pid), 0);
	if (released)
		leash_release(&l);
	close_fd(&l.ours);
	cr_assert_eq(waitid(P_PID, (id_t)p.pid, &how, WEXITED), 0);
	process_finish(&p);
	close_fd(&l.theirs);
	close(out);
	return how;
}

Test(leash, ends_with_the_daemon_until_it_is_released)
{
	siginfo_t how = end_daemon(false);

	cr_assert_eq(how.si_code, CLD_KILLED);
	cr_assert_eq(how.si_status, SIGKILL);
	how = end_daemon(true);
	cr_assert_eq(how.si_code, CLD_EXITED);
	cr_assert_eq(how.si_status, 3);
}

static pthread_barrier_t named;

static void *wait_there(void *data)
{
	(void)data;
	pthread_setname_np(pthread_self(), "waits");
	pthread_barrier_wait(&named);
	pthread_barrier_wait(&named);
	return NULL;
}

Test(scheduling, hurries_one_thread_and_calms_it)
{
	pthread_t thread;
	pid_t tid;

	pthread_barrier_init(&named, NULL, 2);
	pthread_create(&thread, NULL, wait_there, NULL);
	pthread_barrier_wait(&named);
	cr_assert_eq(thread_named(getpid(), "wait"), 0);
	tid = thread_named(getpid(), "waits");
	cr_assert(tid > 0 && tid != getpid());
	thread_hurry(getppid(), tid); /* whose it isn't */
	cr_assert_eq(sched_getscheduler(tid), SCHED_OTHER);
	thread_hurry(getpid(), tid);
	if (sched_getscheduler(tid) != SCHED_OTHER) { /* there may be no privilege */
		cr_assert_eq(sched_getscheduler(tid), SCHED_RR | SCHED_RESET_ON_FORK);
		cr_assert_eq(sched_getscheduler(0), SCHED_OTHER);
	}
	thread_calm(getpid(), tid, 0, 100000);
	cr_assert_eq(sched_getscheduler(tid), SCHED_OTHER);
	pthread_barrier_wait(&named);
	pthread_join(thread, NULL);
}
