/* SPDX-License-Identifier: Apache-2.0
 *
 * A program that has QEMU's command line and speaks QMP, as far as forkfs uses them, with a "guest" that counts at 2 MiB + 16 of its RAM: a VMM that its guest took over.
 * It is started under a name that says what it does (a symbolic link will do):
 *
 *   standin_qemu-good      nothing                                   -slow      a tenth of a second for each answer
 *   standin_qemu-mute      it never greets                           -deaf      it answers nothing
 *   standin_qemu-stuck     it never resumes                          -shut      it closes its control socket instead of a greeting
 *   standin_qemu-leaves    or when its guest is to resume            -half      in the middle of that answer
 *   standin_qemu-dies      it ends there                             -garbage   bytes that are no JSON
 *   standin_qemu-endless   a line without an end                     -deep      an answer nested 30,000 deep
 *   standin_qemu-deeper    or 100,000                                -twice     it answers twice
 *   standin_qemu-ids       it answers with ids                       -greets    it greets over and over
 *   standin_qemu-wrong     what it answers has other types           -refuses   it refuses with a long sentence
 *   standin_qemu-lies      it says it migrated before it was asked   -unsaved   a save fails
 *
 * and once its guest runs:
 *
 *   standin_qemu-events    it tells of events all the time           -turns     of stops and resumes that nobody asked for
 *   standin_qemu-console   it prints all the time, to all three      -presents  it sends descriptors nobody asked for
 *
 * In its hello, in the place of what preload.c does:
 *
 *   standin_qemu-nothing   there is none                             -short     it is too short
 *   standin_qemu-nofd      its userfaultfd is missing                -pty       or is a terminal
 *   standin_qemu-crowd     it comes with 100 descriptors             -nowhere   its RAM is elsewhere
 *   standin_qemu-errors    its errors are none                       -hellos    it never stops
 *   standin_qemu-fuse      its userfaultfd is the file standin_qemu-fuse.fs/file, which nobody serves
 *
 * Before all that standin_qemu-reaches tries what it may do (reach.h), with the socket standin_qemu-reaches.sock. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <linux/userfaultfd.h>

#include "reach.h"
#include "tool.h"
#include "vmm/handover.h"

#define COUNTER ((2u << 20) + 16)
#define STATE "a state of the stand-in for QEMU\n"
#define CROWD 100

static const char *name; /* what it does */
static const char *const *arguments;
static char *ram;
static size_t ram_size;
static int control = -1, console = -1, record = -1, incoming = -1, saved = -1;
static atomic_bool running;

static bool is(const char *what)
{
	return !strcmp(name, what);
}

/* The number behind `key` in the argument that begins with `word`, -1: there is none. */
static int number_of(const char *word, const char *key)
{
	for (const char *const *a = arguments; *a; a++) {
		const char *at = strncmp(*a, word, strlen(word)) ? NULL : strstr(*a, key);

		if (at)
			return atoi(at + strlen(key));
	}
	return -1;
}

static void send_all(const char *data, size_t n)
{
	while (n) {
		ssize_t k = send(control, data, n, MSG_NOSIGNAL);

		if (k <= 0)
			return;
		data += k;
		n -= (size_t)k;
	}
}

static void say(const char *line)
{
	static pthread_mutex_t whole = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&whole);
	send_all(line, strlen(line));
	send_all("\r\n", 2);
	pthread_mutex_unlock(&whole);
}

static void never(void)
{
	for (;;)
		pause();
}

/* `n` brackets, and as many that close them. */
static void say_deep(size_t n)
{
	char *text = malloc(2 * n + 1);

	memset(text, '[', n);
	memset(text + n, ']', n);
	text[2 * n] = '\0';
	send_all("{\"return\":", 10);
	send_all(text, 2 * n);
	say("}");
	free(text);
}

static void say_endless(void)
{
	static char much[65536];

	memset(much, 'x', sizeof much);
	send_all("{\"return\":\"", 11);
	for (;;)
		send_all(much, sizeof much);
}

static void answer(void)
{
	if (is("slow"))
		usleep(100000);
	if (is("deaf"))
		never();
	if (is("garbage"))
		say("\x01\xff{]}:,");
	else if (is("endless"))
		say_endless();
	else if (is("deep"))
		say_deep(30000);
	else if (is("deeper"))
		say_deep(100000);
	else if (is("ids"))
		say("{\"return\":{},\"id\":77}");
	else if (is("greets"))
		say("{\"QMP\":{}}");
	else if (is("wrong"))
		say("{\"event\":[{\"return\":7}],\"data\":\"x\",\"error\":null}");
	else if (is("refuses"))
		say("{\"error\":{\"class\":\"GenericError\",\"desc\":\"it doesn't please me, \\u001b[31mand I say so"
		    "........................................................................................................................................\"}}");
	else
		say("{\"return\":{}}");
	if (is("twice"))
		say("{\"return\":{}}");
}

static void count(void)
{
	if (ram)
		++*(volatile uint64_t *)(void *)(ram + COUNTER);
	(void)!write(record, "C\n", 2);
}

static void shout(void)
{
	static char much[65536];

	memset(much, '!', sizeof much);
	(void)!write(record, much, sizeof much);
	(void)!write(2, much, sizeof much);
	(void)!send(console, much, sizeof much, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* `n` of /dev/null, on whatever socket. Returns sendmsg's. */
static ssize_t send_presents(int to, const void *data, size_t size, int n)
{
	union {
		char space[CMSG_SPACE(CROWD * sizeof(int))];
		struct cmsghdr head;
	} with = { 0 };
	struct iovec iov = { (void *)(uintptr_t)data, size };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &with, .msg_controllen = CMSG_SPACE((size_t)n * sizeof(int)) };
	int fds[CROWD];
	ssize_t r;

	for (int i = 0; i < n; i++)
		fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
	with.head = (struct cmsghdr){ CMSG_LEN((size_t)n * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(&with.head), fds, (size_t)n * sizeof(int));
	r = sendmsg(to, &m, MSG_NOSIGNAL);
	for (int i = 0; i < n; i++)
		close(fds[i]);
	return r;
}

static int handover_socket(void)
{
	const char *value = getenv("FORKFS_HANDOVER");

	return value ? atoi(value) : -1;
}

static void annoy(void)
{
	int error = 0;

	if (is("events"))
		say("{\"event\":\"RTC_CHANGE\",\"data\":{\"offset\":1}}");
	if (is("turns"))
		say("{\"event\":\"STOP\"}\r\n{\"event\":\"RESUME\"}");
	if (is("console"))
		shout();
	if (is("presents")) {
		send_presents(handover_socket(), &error, sizeof error, 2);
		send_presents(control, "\r\n", 2, CROWD);
		send_presents(console, "x", 1, CROWD);
	}
}

static void *guest(void *data)
{
	bool quiet = !is("events") && !is("turns") && !is("console") && !is("presents");

	for (unsigned int i = 0;; i++) {
		if (atomic_load(&running) && i % 64 == 0)
			count();
		if (atomic_load(&running))
			annoy();
		if (quiet || !atomic_load(&running))
			usleep(50);
	}
	return data;
}

/* --- its memory ------------------------------------------------------------------------------------------------------------------ */

static int make_uffd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	const char *device = getenv("FORKFS_UFFD");
	int fd = device ? ioctl(atoi(device), _IO(UFFDIO, 0x00), O_CLOEXEC | O_NONBLOCK) : (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	return fd >= 0 && !ioctl(fd, UFFDIO_API, &api) ? fd : -1;
}

/* Its other end is kept, and has something to be read: a read of it waits whenever we have been faster. */
static int make_pty(void)
{
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), other;

	grantpt(fd);
	unlockpt(fd);
	other = open(ptsname(fd), O_RDWR | O_NOCTTY | O_CLOEXEC);
	(void)!write(other, "x\n", 2);
	return fd;
}

static int open_fuse(void)
{
	char path[512];

	snprintf(path, sizeof path, "%s.fs/file", arguments[0]);
	return open(path, O_RDWR | O_CLOEXEC);
}

static void send_hello(int to, const struct handover_hello *hello, size_t n, int fd)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr head;
	} with = { 0 };
	struct iovec iov = { (void *)(uintptr_t)hello, n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &with, .msg_controllen = sizeof with };

	with.head = (struct cmsghdr){ CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(&with.head), &fd, sizeof fd);
	if (fd < 0)
		m.msg_control = NULL, m.msg_controllen = 0;
	sendmsg(to, &m, MSG_NOSIGNAL);
}

static void *repeat_hello(void *data)
{
	struct handover_hello hello = { .at = 4096 };

	for (;;)
		send_presents((int)(intptr_t)data, &hello, sizeof hello, 2);
	return data;
}

/* In the place of an honest one. The features are what nobody has. */
static void lie(void)
{
	struct handover_hello hello = { .at = (uintptr_t)ram, .size = ram_size, .features = UINT64_MAX, .notes_error = ENOSYS };
	int to = handover_socket();

	if (is("nothing"))
		close(to);
	else if (is("short"))
		send_hello(to, &hello, 3, make_uffd());
	else if (is("nofd"))
		send_hello(to, &hello, sizeof hello, -1);
	else if (is("pty"))
		send_hello(to, &hello, sizeof hello, make_pty());
	else if (is("fuse"))
		send_hello(to, &hello, sizeof hello, open_fuse());
	else if (is("crowd"))
		send_presents(to, &hello, sizeof hello, CROWD);
	else if (is("hellos"))
		pthread_create(&(pthread_t){ 0 }, NULL, repeat_hello, (void *)(intptr_t)to);
	hello.at = is("nowhere") ? 0xfffffffffffff123 : hello.at;
	hello.error = hello.notes_error = is("errors") ? INT32_MIN : 0;
	if (is("nowhere") || is("errors"))
		send_hello(to, &hello, sizeof hello, make_uffd());
}

static bool lies(void)
{
	static const char *const all[] = { "nothing", "short", "nofd", "pty", "fuse", "crowd", "nowhere", "errors", "hellos" };

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (is(all[i]))
			return true;
	return false;
}

/* Shared, so that what is preloaded says hello; a lie is told past it. */
static int map_memory(void)
{
	char path[64];
	int fd;

	snprintf(path, sizeof path, "/proc/self/fd/%d", number_of("memory-backend-file", "mem-path=/proc/self/fd/"));
	fd = open(path, O_RDWR | O_CLOEXEC);
	ram_size = (size_t)number_of("memory-backend-file", "size=") << 20;
	ram = lies() ? (char *)syscall(SYS_mmap, NULL, ram_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0L)
		     : mmap(NULL, ram_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd < 0 || ram == MAP_FAILED)
		return -1;
	if (lies())
		lie();
	return 0;
}

/* --- its commands ---------------------------------------------------------------------------------------------------------------- */

/* To the end, as forkfs hands it over when its turn comes; then all is loaded. */
static void *load(void *data)
{
	char buf[4096];
	ssize_t n;

	fcntl(incoming, F_SETFL, 0);
	while ((n = read(incoming, buf, sizeof buf)) > 0)
		;
	say(n == 0 ? "{\"event\":\"MIGRATION\",\"data\":{\"status\":\"completed\"}}" : "{\"event\":\"MIGRATION\",\"data\":{\"status\":\"failed\"}}");
	return data;
}

static void turn(bool on)
{
	if (on && is("dies"))
		_exit(3);
	if (on && is("stuck"))
		never();
	if (on && is("half"))
		send_all("{\"return\"", 9);
	if (on && (is("half") || is("leaves"))) {
		shutdown(control, SHUT_RDWR);
		never();
	}
	atomic_store(&running, on);
	say(on ? "{\"event\":\"RESUME\"}" : "{\"event\":\"STOP\"}");
	answer();
}

static void save(void)
{
	bool fails = is("unsaved") || write(saved, STATE, sizeof STATE - 1) != sizeof STATE - 1;

	answer();
	say(fails ? "{\"event\":\"MIGRATION\",\"data\":{\"status\":\"failed\"}}" : "{\"event\":\"MIGRATION\",\"data\":{\"status\":\"completed\"}}");
	close(saved);
	saved = -1;
}

static void obey(const char *line)
{
	if (strstr(line, "\"migrate-incoming\"")) {
		incoming = atoi(strstr(line, "fd:") + 3);
		if (is("lies"))
			say("{\"event\":\"MIGRATION\",\"data\":{\"status\":\"completed\"}}");
		answer();
		pthread_create(&(pthread_t){ 0 }, NULL, load, NULL);
	} else if (strstr(line, "\"migrate\"")) {
		save();
	} else if (strstr(line, "\"cont\"")) {
		turn(true);
	} else if (strstr(line, "\"stop\"")) {
		turn(false);
	} else {
		answer();
	}
}

/* One command at a time, with the descriptor that comes along. Returns false at the end. */
static bool receive(char *line, size_t size)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr head;
	} with;
	struct iovec iov = { line, size - 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &with, .msg_controllen = sizeof with };
	ssize_t n = recvmsg(control, &m, MSG_CMSG_CLOEXEC);

	if (n <= 0)
		return false;
	if (CMSG_FIRSTHDR(&m))
		memcpy(&saved, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof saved);
	line[n] = '\0';
	return true;
}

/* Commands have no line ends: a brace that closes the outermost one ends each. */
static void obey_all(char *text)
{
	int depth = 0;

	for (char *at = text; *at; at++) {
		depth += (*at == '{') - (*at == '}');
		if (*at == '}' && !depth) {
			char after = at[1];

			at[1] = '\0';
			obey(text);
			at[1] = after;
			text = at + 1;
		}
	}
}

static int talk(void)
{
	char text[16384];

	control = accept4(number_of("socket,id=control", "fd="), NULL, NULL, SOCK_CLOEXEC);
	console = accept4(number_of("socket,id=console", "fd="), NULL, NULL, SOCK_CLOEXEC);
	record = number_of("fd=", "fd=");
	if (is("mute"))
		never();
	if (is("shut")) {
		close(control);
		never();
	}
	say("{\"QMP\":{\"version\":{},\"capabilities\":[]}}");
	pthread_create(&(pthread_t){ 0 }, NULL, guest, NULL);
	while (receive(text, sizeof text))
		obey_all(text);
	never();
	return 0;
}

int main(int argc, char **argv)
{
	const char *dash = strrchr(argv[0], '-');

	name = dash && !strchr(dash, '/') ? dash + 1 : "good";
	arguments = (const char *const *)argv;
	if (argc > 1 && !strcmp(argv[1], "--version"))
		return puts("QEMU emulator version 7.2.22") < 0;
	if (argc > 1 && !strcmp(argv[1], "-accel"))
		return puts("tcg") < 0;
	if (is("reaches"))
		reach(argv[0]);
	return map_memory() < 0 ? 1 : talk();
}
