/* SPDX-License-Identifier: Apache-2.0
 *
 * A program that speaks Firecracker's API and command line, with a "guest" that counts at 2 MiB + 16 of its RAM: for tests where there is no Firecracker, and for faults that
 * a real one can't be made to have. It is started under a name that says what is wrong with it (a symbolic link will do):
 *
 *   standin-patched      nothing: it has all of forkfs' patches   -stock     it has none        -old       it reads format 8.0 only, and sets no clock
 *   standin-early        it ends at once                          -deaf      it makes no socket -silent    it answers nothing
 *   standin-mute         it never answers to a load
 *   standin-half         it sends half a header for a load        -garbage   no HTTP            -huge      a body of 1 MiB
 *   standin-refuse       400 to a load, then it ends              -raw       400 as its HTTP layer does, with no JSON
 *   standin-busy         503                                      -seccomp   it ends with status 148 at a load
 *   standin-nofd         it hands over no userfaultfd             -nonsense  or says nonsense of its memory
 *   standin-stuck        it never resumes                         -slow      it takes a second to resume
 *   standin-endless      a body without an end                    -headers   headers without an end      -continues  100 after 100
 *   standin-twice        it answers all twice                     -shouts    it prints all the time      -crowd   it hands over its userfaultfd among 60 descriptors
 *   standin-dies         it ends when it is to resume              -disk      its guest has a disk that it writes, beside the program
 *   standin-late         it opens that disk when its guest is resumed
 *   standin-tap          its guest has a network interface
 *
 * Its console repeats what is typed, where stdin is what Firecracker heeds.
 *
 * usage: standin --state MIB [VERSION [DEVICE]]   prints a device state, "vsock" is a device */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <linux/if_tun.h>
#include <linux/userfaultfd.h>
#include <net/if.h>

#include "tool.h"

#define COUNTER ((2u << 20) + 16)
#define REQUEST_MAX 65536
#define CROWD 60
#define FEATURES (UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM)

static const char *name; /* what is wrong */
static const char *program;
static char *ram;
static size_t ram_size;
static char state[4096];
static size_t state_size;
static atomic_bool running;
static char memory_path[256];
static char *late; /* a disk that is opened when it runs */

static bool is(const char *what)
{
	return !strcmp(name, what);
}

static void put(char *at, size_t *n, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		at[(*n)++] = (char)(value >> 8 * i);
}

/* CRC-64/Jones, bit by bit. */
static uint64_t crc64(const char *data, size_t n)
{
	uint64_t crc = 0;

	for (size_t i = 0; i < n; i++) {
		crc ^= (unsigned char)data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0x95AC9329AC4BC9B5u : crc >> 1;
	}
	return crc;
}

static void make_state(uint64_t mib, const char *version, const char *device)
{
	size_t n = 0;

	put(state, &n, 0, 1);
	put(state, &n, 0x0710198486640000u, 8);
	put(state, &n, strlen(version), 1);
	memcpy(state + n, version, strlen(version));
	n += strlen(version);
	put(state, &n, 0, 1);
	put(state, &n, mib, 8);
	memcpy(state + n, device, strlen(device));
	n += strlen(device);
	put(state, &n, crc64(state, n), 8);
	state_size = n;
}

/* What is typed, as long as stdin is a pipe: Firecracker heeds no other but a terminal. */
static void repeat(void)
{
	char typed[256];
	struct stat st;
	ssize_t n;

	if (fstat(0, &st) || !S_ISFIFO(st.st_mode))
		return;
	fcntl(0, F_SETFL, O_NONBLOCK);
	n = read(0, typed, sizeof typed);
	if (n > 0)
		(void)!write(1, typed, (size_t)n);
}

static void *guest(void *data)
{
	(void)data;
	static char much[65536];

	memset(much, '!', sizeof much);
	for (;;) {
		repeat();
		if (is("shouts") && atomic_load(&running) && (write(1, much, sizeof much) < 0 || write(2, much, sizeof much) < 0))
			return NULL;
		if (atomic_load(&running)) {
			++*(volatile uint64_t *)(void *)(ram + COUNTER);
			(void)!write(1, "C\n", 2);
		}
		usleep(2000);
	}
	return NULL;
}

static void send_all(int fd, const char *data, size_t n)
{
	while (n) {
		ssize_t k = send(fd, data, n, MSG_NOSIGNAL);

		if (k <= 0)
			return;
		data += k;
		n -= (size_t)k;
	}
}

static void answer_once(int fd, int status, const char *body)
{
	char head[256];

	snprintf(head, sizeof head, "HTTP/1.1 %d \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n", status);
	send_all(fd, head, strlen(head));
	if (*body) {
		snprintf(head, sizeof head, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n", strlen(body));
		send_all(fd, head, strlen(head));
		send_all(fd, body, strlen(body));
	} else {
		send_all(fd, "\r\n", 2);
	}
}

static void answer(int fd, int status, const char *body)
{
	answer_once(fd, status, body);
	if (is("twice"))
		answer_once(fd, status, body);
}

/* The same again and again, until nobody listens any more. */
static void never_stop(int fd, const char *first, const char *again)
{
	send_all(fd, first, strlen(first));
	while (send(fd, again, strlen(again), MSG_NOSIGNAL) > 0)
		;
	pause();
}

static void refuse(int fd, const char *why)
{
	char body[512];

	snprintf(body, sizeof body, "{\"fault_message\":\"%s\"}", why);
	answer(fd, 400, body);
}

/* The string behind "KEY":", which is all that is asked of its JSON. */
static bool string_of(const char *body, const char *key, char *ret, size_t n)
{
	char word[64];
	const char *at;

	snprintf(word, sizeof word, "\"%s\":\"", key);
	at = strstr(body, word);
	if (!at)
		return false;
	at += strlen(word);
	snprintf(ret, n, "%.*s", (int)strcspn(at, "\""), at);
	return true;
}

/* Registered for write-protection and not waited for, or neither. */
static bool hand_over(const char *path, bool protect)
{
	struct uffdio_register reg = { .range = { (uintptr_t)ram, ram_size }, .mode = UFFDIO_REGISTER_MODE_WP };
	struct uffdio_api api = { .api = UFFD_API, .features = FEATURES };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int to = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	union {
		char space[CMSG_SPACE(CROWD * sizeof(int))];
		struct cmsghdr head;
	} control = { 0 };
	char text[256], byte;
	struct iovec iov = { text, 0 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(sizeof(int)) };

	memcpy(un.sun_path, path, strlen(path));
	if (uffd < 0) {
		int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

		uffd = device < 0 ? -1 : ioctl(device, _IO(UFFDIO, 0x00), O_CLOEXEC | O_NONBLOCK);
	}
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || connect(to, (struct sockaddr *)&un, sizeof un))
		return false;
	snprintf(text, sizeof text, "[{\"base_host_virt_addr\":%llu,\"size\":%zu,\"offset\":0,\"page_size\":4096,\"page_size_kib\":4096}]",
		 (unsigned long long)(is("nonsense") ? 12345 : (uintptr_t)ram), ram_size);
	iov.iov_len = strlen(text);
	control.head = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.head), &uffd, sizeof uffd);
	if (is("crowd")) {
		int fds[CROWD];

		for (int i = 0; i < CROWD; i++)
			fds[i] = i % 2 ? 1 : uffd;
		control.head.cmsg_len = CMSG_LEN(sizeof fds);
		memcpy(CMSG_DATA(&control.head), fds, sizeof fds);
		m.msg_controllen = sizeof control;
	}
	if (is("nofd"))
		m.msg_control = NULL, m.msg_controllen = 0;
	if (protect && ioctl(uffd, UFFDIO_REGISTER, &reg))
		return false;
	if (sendmsg(to, &m, MSG_NOSIGNAL) <= 0)
		return false;
	if (!protect)
		return read(to, &byte, 1) == 1;
	close(to);
	close(uffd);
	return true;
}

/* As a real one: what it can't do it says, and ends. */
static void give_up(int fd, const char *why)
{
	refuse(fd, why);
	exit(1);
}

static bool open_tap(void)
{
	struct ifreq r = { .ifr_name = "tap-of-old", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	return tap >= 0 && !ioctl(tap, TUNSETIFF, &r) && !ioctl(tap, TUNSETOFFLOAD, TUN_F_CSUM) && !ioctl(tap, TUNSETVNETHDRSZ, &(int){ 12 });
}

static void open_devices(int fd, const char *body)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	bool has_vsock = memmem(state, state_size, "vsock", 5), overridden = strstr(body, "\"vsock_override\"");
	char disk[512];
	int file;

	if (overridden && !has_vsock)
		give_up(fd, "Unknown Vsock Device");
	if (has_vsock && !string_of(body, "uds_path", un.sun_path, sizeof un.sun_path))
		give_up(fd, "the snapshot's vsock path is in use");
	if (has_vsock && (bind(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), (struct sockaddr *)&un, sizeof un)))
		give_up(fd, "the vsock can't be bound");
	if (strstr(body, "\"clock_realtime\":true"))
		(void)!write(1, "clock moved\n", 12);
	snprintf(disk, sizeof disk, "%s.img", program);
	if (is("disk") && ((file = open(disk, O_RDWR | O_CLOEXEC)) < 0 || pwrite(file, "changed", 7, 0) != 7))
		give_up(fd, strerrorname_np(errno));
	if (is("late"))
		late = strdup(disk);
	if (is("tap") && !open_tap())
		give_up(fd, strerrorname_np(errno));
}

static void load(int fd, const char *body)
{
	char path[256];
	char uffd[sizeof((struct sockaddr_un *)NULL)->sun_path];
	bool shared = strstr(body, "\"shared\":true"), hands_over = string_of(body, "uffd_uds_path", uffd, sizeof uffd);
	uint64_t mib = 0;
	int file;

	if (is("stock") && (shared || hands_over)) {
		refuse(fd, shared ? "unknown field `shared`, expected `backend_path` or `backend_type`" : "unknown field `uffd_uds_path`, expected `backend_path` or `backend_type`");
		return;
	}
	if (is("old") && strstr(body, "\"clock_realtime\"")) {
		refuse(fd, "unknown field `clock_realtime`, expected one of `snapshot_path`, `mem_file_path`, `mem_backend`");
		return;
	}
	if (!string_of(body, "snapshot_path", path, sizeof path)) {
		refuse(fd, "missing field `snapshot_path`");
		return;
	}
	if (is("mute"))
		pause();
	if (is("half")) {
		send_all(fd, "HTTP/1.1 20", 11);
		pause();
	}
	if (is("garbage"))
		send_all(fd, "\x01\x02 220 this is no HTTP\r\n\r\n", 27);
	if (is("endless"))
		never_stop(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "8\r\nxxxxxxxx\r\n");
	if (is("headers"))
		never_stop(fd, "HTTP/1.1 200 OK\r\n", "X-More: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n");
	if (is("continues"))
		never_stop(fd, "", "HTTP/1.1 100 Continue\r\n\r\n");
	if (is("huge")) {
		char *much = calloc(1, (1 << 20) + 1);

		memset(much, 'x', 1 << 20);
		answer(fd, 400, much);
		free(much);
	}
	if (is("garbage") || is("huge"))
		pause();
	if (is("refuse"))
		give_up(fd, "Load snapshot error: it doesn't please me");
	if (is("raw")) {
		answer(fd, 400, "{ \"error\": \"it is\nrefused\nAll previous unanswered requests will be dropped.\" }");
		exit(1);
	}
	if (is("busy")) {
		answer(fd, 503, "{ \"error\": \"Too many open connections\" }");
		pause();
	}
	if (is("seccomp"))
		_exit(148);
	file = open(path, O_RDONLY | O_CLOEXEC);
	state_size = file < 0 ? 0 : (size_t)read(file, state, sizeof state);
	if (state_size < 31 || !string_of(body, "backend_path", path, sizeof path))
		give_up(fd, "no state");
	open_devices(fd, body);
	memcpy(&mib, state + 11 + state[9], 8);
	ram_size = mib << 20;
	file = open(path, (shared ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	ram = file < 0 ? MAP_FAILED : mmap(NULL, ram_size, PROT_READ | PROT_WRITE, shared ? MAP_SHARED : MAP_PRIVATE, file, 0);
	if (ram == MAP_FAILED)
		give_up(fd, "no memory");
	if (hands_over && !hand_over(uffd, false))
		give_up(fd, "nobody takes the userfaultfd");
	answer(fd, 204, "");
	pthread_create(&(pthread_t){ 0 }, NULL, guest, NULL);
}

static void create(int fd, const char *body)
{
	char path[256], memory[256];
	bool whole = !strstr(body, "\"VmstateOnly\"");
	int file;

	if (!whole && is("stock")) {
		refuse(fd, "unknown variant `VmstateOnly`, expected `Diff` or `Full`");
		return;
	}
	if (!string_of(body, "snapshot_path", path, sizeof path) || (whole && !string_of(body, "mem_file_path", memory, sizeof memory))) {
		refuse(fd, "missing field `snapshot_path`");
		return;
	}
	file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (atomic_load(&running) || file < 0 || write(file, state, state_size) != (ssize_t)state_size) {
		refuse(fd, "the state can't be saved");
		return;
	}
	close(file);
	if (whole) {
		file = open(memory, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (file < 0 || write(file, ram, ram_size) != (ssize_t)ram_size) {
			refuse(fd, "the memory can't be saved");
			return;
		}
		close(file);
	}
	answer(fd, 204, "");
}

static void change(int fd, const char *body)
{
	bool resume = strstr(body, "Resumed");

	if (resume && is("stuck"))
		pause();
	if (resume && is("dies"))
		_exit(1);
	if (resume && is("slow"))
		sleep(1);
	if (late)
		printf("late: %s\n", open(late, O_RDWR | O_CLOEXEC) < 0 ? strerrorname_np(errno) : "opened"), fflush(stdout);
	atomic_store(&running, resume);
	usleep(3000); /* the guest has seen it */
	answer(fd, 204, "");
}

static void set_machine(int fd, const char *body)
{
	const char *at = strstr(body, "\"mem_size_mib\":");

	if (is("stock") && strstr(body, "\"memory_path\"")) {
		refuse(fd, "unknown field `memory_path`, expected one of `vcpu_count`, `mem_size_mib`, `smt`, `cpu_template`, `track_dirty_pages`, `huge_pages`");
		return;
	}
	if (!strstr(body, "\"vcpu_count\"")) {
		refuse(fd, "missing field `vcpu_count`");
		return;
	}
	string_of(body, "memory_path", memory_path, sizeof memory_path);
	make_state(at ? strtoul(at + 15, NULL, 10) : 128, "10.0.0", "devices");
	ram_size = at ? strtoul(at + 15, NULL, 10) << 20 : 128u << 20;
	answer(fd, 204, "");
}

static void set_kernel(int fd, const char *body)
{
	char path[256], word[8] = "";
	int file = string_of(body, "kernel_image_path", path, sizeof path) ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (is("mute"))
		pause();
	if (file < 0 || read(file, word, 6) != 6 || strcmp(word, "kernel"))
		refuse(fd, "The kernel file cannot be opened");
	else if (string_of(body, "initrd_path", path, sizeof path) && open(path, O_RDONLY | O_CLOEXEC) < 0)
		refuse(fd, "The initrd file cannot be opened");
	else
		answer(fd, 204, "");
}

static void start_guest(int fd)
{
	int file = open(memory_path, O_RDWR | O_CLOEXEC);

	if (is("dies"))
		_exit(1);
	ram = file < 0 ? MAP_FAILED : mmap(NULL, ram_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (ram == MAP_FAILED)
		give_up(fd, "no memory");
	atomic_store(&running, true);
	pthread_create(&(pthread_t){ 0 }, NULL, guest, NULL);
	answer(fd, 204, "");
}

static void protect(int fd, const char *body)
{
	char path[sizeof((struct sockaddr_un *)NULL)->sun_path];

	if (!string_of(body, "socket", path, sizeof path))
		refuse(fd, "missing field `socket`");
	else if (!hand_over(path, true))
		refuse(fd, "nobody takes the userfaultfd");
	else
		answer(fd, 204, "");
}

static void handle(int fd, const char *request, const char *body)
{
	if (is("silent"))
		pause();
	if (!strncmp(request, "PUT /machine-config ", 20))
		set_machine(fd, body);
	else if (!strncmp(request, "PUT /boot-source ", 17))
		set_kernel(fd, body);
	else if (!strncmp(request, "PUT /actions ", 13))
		start_guest(fd);
	else if (!strncmp(request, "PUT /snapshot/load ", 19))
		load(fd, body);
	else if (!strncmp(request, "PUT /snapshot/create ", 21))
		create(fd, body);
	else if (!strncmp(request, "PATCH /vm ", 10))
		change(fd, body);
	else if (!strncmp(request, "PUT /uffd/wp ", 13) && !is("stock"))
		protect(fd, body);
	else if (!strncmp(request, "GET /version ", 13))
		answer(fd, 200, "{\"firecracker_version\":\"1.16.1\"}");
	else
		refuse(fd, "Invalid request method and/or path");
}

static void serve(int fd)
{
	char buf[REQUEST_MAX];
	size_t n = 0;

	for (;;) {
		char *end, *length;
		size_t body = 0, whole;
		ssize_t k;

		buf[n] = '\0';
		end = strstr(buf, "\r\n\r\n");
		if (end) {
			length = strcasestr(buf, "\r\nContent-Length:");
			body = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
		}
		whole = end ? (size_t)(end + 4 - buf) + body : SIZE_MAX;
		if (n >= whole) {
			end[3] = '\0';
			handle(fd, buf, end + 4);
			memmove(buf, buf + whole, n - whole);
			n -= whole;
			continue;
		}
		k = read(fd, buf + n, sizeof buf - 1 - n);
		if (k <= 0)
			return;
		n += (size_t)k;
	}
}

static void *connection(void *data)
{
	int fd = (int)(intptr_t)data;

	serve(fd);
	close(fd);
	return NULL;
}

static int listen_at(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (is("deaf"))
		pause();
	snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
	if (bind(fd, (struct sockaddr *)&un, sizeof un) || listen(fd, 8)) {
		perror("bind");
		return 1;
	}
	for (;;) {
		pthread_t thread;
		int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (peer >= 0 && !pthread_create(&thread, NULL, connection, (void *)(intptr_t)peer))
			pthread_detach(thread);
	}
}

int main(int argc, char **argv)
{
	const char *dash = strrchr(argv[0], '-'), *socket = NULL;

	program = argv[0];
	name = dash && !strchr(dash, '/') ? dash + 1 : "patched";
	if (argc >= 3 && !strcmp(argv[1], "--state")) {
		make_state(strtoul(argv[2], NULL, 10), argc > 3 ? argv[3] : "10.0.0", argc > 4 ? argv[4] : "devices");
		return fwrite(state, 1, state_size, stdout) != state_size;
	}
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--version"))
			return puts("Firecracker v1.16.1\n") < 0;
		if (!strcmp(argv[i], "--snapshot-version"))
			return puts(is("old") ? "v8.0.0" : "v10.0.0") < 0;
		if (!strcmp(argv[i], "--api-sock") && i + 1 < argc)
			socket = argv[++i];
		else if (!strcmp(argv[i], "--log-path") && i + 1 < argc)
			close(open(argv[++i], O_WRONLY | O_APPEND | O_CLOEXEC));
	}
	if (!socket)
		return 2;
	if (is("early")) {
		fprintf(stderr, "Error: it ends early\n");
		return 1;
	}
	return listen_at(socket);
}
