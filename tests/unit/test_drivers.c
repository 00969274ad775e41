/* SPDX-License-Identifier: Apache-2.0
 *
 * What the drivers do on the loop: the null one whole, QEMU's with programs that are no QEMU. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "vmm/driver.h"
#include "vmm/helper.h"

#define RAM (4u << 20)

struct scene {
	sd_event *event;
	struct jobs *jobs;
	char dir[64];
	struct region ram;
	struct recipe recipe;
	struct vm_spec spec;
	struct vm *vm;
	int answers, exits;
	struct failure why;
};

static void on_answered(struct vm *vm, const struct failure *why, void *data)
{
	struct scene *s = data;

	(void)vm;
	s->answers++;
	s->why = why ? *why : (struct failure){ 0 };
}

static void on_exited(struct vm *vm, const siginfo_t *how, void *data)
{
	(void)vm;
	(void)how;
	((struct scene *)data)->exits++;
}

static const struct vm_watcher watcher = { .answered = on_answered, .exited = on_exited };

static void open_scene(struct scene *s)
{
	*s = (struct scene){ .dir = "/tmp/forkfs-test-XXXXXX", .ram = { REGION_SHARED, RAM, memfd_create("forkfs:test", MFD_CLOEXEC) } };
	signal(SIGPIPE, SIG_IGN); /* as in the daemon: a VMM may end while it is told something */
	cr_assert_not_null(mkdtemp(s->dir));
	ftruncate(s->ram.fd, RAM);
	sd_event_new(&s->event);
	jobs_create(&s->jobs, s->event, 2);
	s->recipe = (struct recipe){ .machine = "microvm", .accel = "tcg", .cpu = "max", .vcpus = 1, .ram_size = RAM };
	s->spec = (struct vm_spec){
		.event = s->event,
		.jobs = s->jobs,
		.id = "test",
		.dir = open(s->dir, O_PATH | O_DIRECTORY | O_CLOEXEC),
		.recipe = &s->recipe,
		.ram = &s->ram,
		.netns = -1,
		.console = memfd_create("console", MFD_CLOEXEC),
		.log = memfd_create("log", MFD_CLOEXEC),
		.kernel = -1,
		.initrd = -1,
		.args = "",
	};
	fcntl(s->spec.log, F_SETFL, O_APPEND);
}

static void close_scene(struct scene *s)
{
	char command[128];

	jobs_destroy(s->jobs);
	sd_event_unref(s->event);
	close(s->ram.fd);
	close(s->spec.console);
	close(s->spec.log);
	close(s->spec.dir);
	snprintf(command, sizeof command, "%s/qmp", s->dir);
	unlink(command);
	snprintf(command, sizeof command, "%s/console", s->dir);
	unlink(command);
	rmdir(s->dir);
}

static void start(struct scene *s, const struct driver *driver)
{
	cr_assert_eq(driver->start(&s->vm, &s->spec, &watcher, s, &s->why), 0);
	while (!s->answers)
		sd_event_run(s->event, UINT64_MAX);
}

static void request(struct scene *s, void (*what)(struct vm *))
{
	s->answers = 0;
	what(s->vm);
	cr_assert_eq(s->answers, 0, "never from inside a call");
	while (!s->answers)
		sd_event_run(s->event, UINT64_MAX);
	cr_assert_eq(s->why.code, 0);
}

/* `over`: what is mapped over its own memory, or NULL. */
static void load(struct scene *s, const struct region *over, int state)
{
	s->answers = 0;
	s->vm->driver->map(s->vm, over, state);
	cr_assert_eq(s->answers, 0, "never from inside a call");
	while (!s->answers)
		sd_event_run(s->event, UINT64_MAX);
	if (s->why.code)
		return;
	s->answers = 0;
	s->vm->driver->load(s->vm, state);
	cr_assert_eq(s->answers, 0, "never from inside a call");
	while (!s->answers)
		sd_event_run(s->event, UINT64_MAX);
}

static void end(struct scene *s)
{
	s->vm->driver->kill(s->vm);
	while (!s->exits)
		sd_event_run(s->event, UINT64_MAX);
	cr_assert_eq(s->exits, 1);
	s->vm->driver->destroy(s->vm);
}

static bool maps(const struct scene *s, const char *what)
{
	char path[64], line[512];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/maps", (int)s->vm->process.pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		found = found || (strstr(line, "/memfd:forkfs:test") && strstr(line, what));
	if (f)
		fclose(f);
	return found;
}

/* What the daemon's death does to the socket of the handover; the null driver has no other. Criterion's own are left alone: they are not of this kind. */
static void forget(void)
{
	socklen_t n = sizeof(int);
	int type;

	for (int fd = 3; fd < 256; fd++)
		if (!getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) && type == SOCK_SEQPACKET)
			shutdown(fd, SHUT_RDWR);
}

Test(drivers, are_found_by_name)
{
	cr_assert_eq(driver_find("qemu"), &driver_qemu);
	cr_assert_eq(driver_find("null"), &driver_null);
	cr_assert_null(driver_find("nul"));
	cr_assert_not(driver_null.automatic);
}

Test(null, lives_and_ends, .timeout = 20)
{
	AUTO_CLOSE int state = memfd_create("state", MFD_CLOEXEC);
	struct region over = { REGION_FILE, RAM, memfd_create("forkfs:test-template", MFD_CLOEXEC) };
	struct scene s;
	char buf[64] = "";

	open_scene(&s);
	cr_assert_eq(ftruncate(over.fd, RAM), 0);
	start(&s, &driver_null);
	cr_assert_eq(s.why.code, 0, "%s", s.why.text);
	cr_assert(maps(&s, "rw-s"));
	request(&s, driver_null.resume);
	request(&s, driver_null.pause);
	cr_assert_eq(driver_null.type(s.vm, "typed\n", 6), 6);
	cr_assert_eq(pread(s.spec.console, buf, sizeof buf, 0), 6);
	s.answers = 0;
	driver_null.save(s.vm, state);
	while (!s.answers)
		sd_event_run(s.event, UINT64_MAX);
	end(&s);

	s.answers = s.exits = 0;
	start(&s, &driver_null);
	load(&s, NULL, state);
	cr_assert_eq(s.why.code, 0, "%s", s.why.text);
	cr_assert(maps(&s, "rw-s"), "its own memory stays");
	end(&s);

	s.answers = s.exits = 0;
	start(&s, &driver_null);
	load(&s, &over, state);
	cr_assert_eq(s.why.code, 0, "%s", s.why.text);
	cr_assert(maps(&s, "rw-p"), "the other one is in its place");
	cr_assert_not(maps(&s, "rw-s"));
	end(&s);
	close(over.fd);
	close_scene(&s);
}

/* Its other end is closed, as when the daemon dies: a VMM whose guest never ran ends, one whose guest did goes on. */
Test(null, lives_for_its_guest, .timeout = 20)
{
	AUTO_CLOSE int state = memfd_create("state", MFD_CLOEXEC);
	struct scene s;

	open_scene(&s);
	cr_assert_eq(write(state, "forkfs null state 1\n", 20), 20);
	for (int loaded = 0; loaded <= 1; loaded++) {
		s.answers = s.exits = 0;
		start(&s, &driver_null);
		if (loaded)
			load(&s, NULL, state);
		forget();
		while (!s.exits)
			sd_event_run(s.event, UINT64_MAX);
		driver_null.destroy(s.vm);
	}

	s.answers = s.exits = 0;
	start(&s, &driver_null);
	load(&s, NULL, state);
	request(&s, driver_null.resume);
	forget();
	sd_event_run(s.event, 300000);
	cr_assert_eq(s.exits, 0);
	end(&s);
	close_scene(&s);
}

Test(null, refuses_a_foreign_state, .timeout = 20)
{
	AUTO_CLOSE int state = memfd_create("state", MFD_CLOEXEC);
	struct scene s;

	open_scene(&s);
	start(&s, &driver_null);
	load(&s, NULL, state);
	cr_assert_eq(s.why.code, EIO);
	end(&s);
	close_scene(&s);
}

Test(null, can_be_slow, .timeout = 20)
{
	struct scene s;

	open_scene(&s);
	setenv("FORKFS_NULL_DELAY_MS", "100000", 1);
	s.spec.kernel = s.spec.log; /* a boot; it is not looked at */
	cr_assert_eq(driver_null.start(&s.vm, &s.spec, &watcher, &s, &s.why), 0);
	driver_null.kill(s.vm);
	while (!s.exits)
		sd_event_run(s.event, UINT64_MAX);
	cr_assert_eq(s.answers, 1);
	cr_assert_eq(s.why.code, EIO);
	driver_null.destroy(s.vm);
	close_scene(&s);
}

Test(qemu, that_is_not_there, .timeout = 20)
{
	struct scene s;

	open_scene(&s);
	s.spec.program = &(struct driver_program){ "/no/such/qemu" };
	start(&s, &driver_qemu);
	cr_assert_eq(s.why.code, ENODEV);
	cr_assert(strstr(s.why.text, "/no/such/qemu"), "%s", s.why.text);
	cr_assert_eq(s.vm->process.pid, 0);
	driver_qemu.destroy(s.vm);
	close_scene(&s);
}

/* What it wrote last is in the sentence. */
Test(qemu, that_ends_at_once, .timeout = 20)
{
	struct scene s;

	open_scene(&s);
	s.spec.program = &(struct driver_program){ "/bin/ls" }; /* which says "unrecognized option" or the like */
	start(&s, &driver_qemu);
	cr_assert_eq(s.why.code, EIO);
	cr_assert(strstr(s.why.text, "ended with status 2: "), "%s", s.why.text);
	end(&s);
	close_scene(&s);
}

Test(qemu, refuses_a_foreign_state, .timeout = 60)
{
	AUTO_CLOSE int state = memfd_create("state", MFD_CLOEXEC);
	struct driver_facts facts;
	struct scene s;

	driver_qemu.probe(NULL, &(struct kvm_facts){ 0 }, &facts);
	if (!facts.usable)
		cr_skip_test("no QEMU");
	open_scene(&s);
	s.spec.program = &facts.program;
	s.recipe.device_count = 1;
	cr_assert_eq(write(state, "this is no state", 16), 16);
	start(&s, &driver_qemu);
	cr_assert_eq(s.why.code, 0, "%s", s.why.text);
	load(&s, NULL, state);
	cr_assert_eq(s.why.code, EIO);
	cr_assert(strstr(s.why.text, "load"), "%s", s.why.text);
	end(&s);
	close_scene(&s);
}

/* The owner has the clock: a VMM that says nothing is killed by it. */
Test(qemu, that_says_nothing, .timeout = 20)
{
	struct driver_program program = { 0 };
	struct scene s;
	int fd;

	open_scene(&s);
	snprintf(program.path, sizeof program.path, "%s/mute", s.dir);
	fd = open(program.path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	cr_assert_eq(write(fd, "#!/bin/sh\nexec sleep 1000\n", 26), 26);
	close(fd);
	s.spec.program = &program;
	cr_assert_eq(driver_qemu.start(&s.vm, &s.spec, &watcher, &s, &s.why), 0);
	for (int i = 0; i < 3; i++)
		sd_event_run(s.event, 100000);
	cr_assert_eq(s.answers, 0);
	driver_qemu.kill(s.vm);
	while (!s.exits)
		sd_event_run(s.event, UINT64_MAX);
	cr_assert_eq(s.answers, 1);
	cr_assert(strstr(s.why.text, "killed by signal 9"), "%s", s.why.text);
	driver_qemu.destroy(s.vm);
	unlink(program.path);
	close_scene(&s);
}

Test(helper, says_what_is_missing)
{
	struct failure why;

	cr_assert_eq(helper_open("no-such-helper", &why), -EOPNOTSUPP);
	cr_assert(strstr(why.text, "no-such-helper"));
}
