/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "vmm/base/cleanup.h"

/* Interpreted the loop reaches 1 to 5 million instructions a second; under emulated nesting some hundred, on hardware a thousand or more. */
#define MIPS_MIN 20
#define MEASURE_NS 100000000ll
#define LOOK_MS 50
#define LOOKS 8

#define GUEST_SIZE 0x10000u
#define CODE 0x8000u
#define COUNTER 0x1000u
#define INNER 50
#define INSTRUCTIONS (2 * INNER + 5) /* a round */

/* 32-bit protected mode, ring 0, paging off: what such hosts interpret, and privileged instructions at that. */
static const uint8_t code[] = {
	0xfa,                               /* cli */
	0xfb,                               /* sti */
	0xb9, INNER, 0, 0, 0,               /* mov $INNER, %ecx */
	0x49,                               /* 1: dec %ecx */
	0x75, 0xfd,                         /* jnz 1b */
	0xff, 0x05, 0x00, 0x10, 0x00, 0x00, /* incl COUNTER */
	0xeb, 0xee,                         /* jmp to the beginning */
};

/* Shared with the child. */
struct trial {
	volatile int64_t started; /* ns of CLOCK_MONOTONIC, 0: not yet */
	const char *volatile step;
	volatile int error;
	volatile uint32_t exit_reason;
	uint8_t *guest;
};

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int did(struct trial *t, const char *step, int result)
{
	if (result < 0) {
		t->error = errno;
		t->step = step;
		_exit(1);
	}
	return result;
}

static void set_registers(struct trial *t, int cpu)
{
	struct kvm_segment data = { .limit = UINT32_MAX, .selector = 16, .type = 3, .present = 1, .s = 1, .g = 1, .db = 1 };
	struct kvm_regs regs = { .rip = CODE, .rflags = 2, .rsp = CODE };
	struct kvm_sregs sregs;

	did(t, "KVM_GET_SREGS", ioctl(cpu, KVM_GET_SREGS, &sregs));
	sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = sregs.cs = data;
	sregs.cs.selector = 8;
	sregs.cs.type = 11;
	sregs.cr0 |= 1;
	did(t, "KVM_SET_SREGS", ioctl(cpu, KVM_SET_SREGS, &sregs));
	did(t, "KVM_SET_REGS", ioctl(cpu, KVM_SET_REGS, &regs));
}

/* In a child of a threaded process: system calls only. Ends by being killed, also with a daemon that is killed itself: nobody else would. */
static void run_guest(struct trial *t, pid_t parent)
{
	struct kvm_userspace_memory_region memory = { .memory_size = GUEST_SIZE, .userspace_addr = (uintptr_t)t->guest };
	struct kvm_run *run;
	int kvm, vm, cpu, size, r;

	syscall(SYS_close_range, 3u, ~0u, 0);
	did(t, "end with the daemon", prctl(PR_SET_PDEATHSIG, SIGKILL));
	if (getppid() != parent)
		_exit(1);
	kvm = did(t, "open /dev/kvm", open("/dev/kvm", O_RDWR | O_CLOEXEC));
	vm = did(t, "KVM_CREATE_VM", ioctl(kvm, KVM_CREATE_VM, 0));
	did(t, "KVM_SET_USER_MEMORY_REGION", ioctl(vm, KVM_SET_USER_MEMORY_REGION, &memory));
	cpu = did(t, "KVM_CREATE_VCPU", ioctl(vm, KVM_CREATE_VCPU, 0));
	size = did(t, "KVM_GET_VCPU_MMAP_SIZE", ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
	did(t, "map the CPU", run == MAP_FAILED ? -1 : 0);
	set_registers(t, cpu);
	t->started = now_ns();
	while ((r = ioctl(cpu, KVM_RUN, 0)) < 0 && errno == EINTR) /* a debugger's doing, say */
		;
	did(t, "KVM_RUN", r);
	t->exit_reason = run->exit_reason;
	t->step = "KVM_RUN";
	_exit(1);
}

/* Until the loop has run long enough, the child has ended or the time is over. Returns the nanoseconds that it ran. */
static int64_t wait_for_guest(const struct trial *t, int pidfd)
{
	struct pollfd poller = { .fd = pidfd, .events = POLLIN };

	for (int i = 0; i < LOOKS; i++) {
		if (poll(&poller, 1, LOOK_MS) > 0)
			break;
		if (t->started && now_ns() - t->started >= MEASURE_NS)
			break;
	}
	return t->started ? now_ns() - t->started : 0;
}

static uint32_t rounds(const struct trial *t)
{
	return *(const volatile uint32_t *)(const void *)(t->guest + COUNTER);
}

static void judge(const struct trial *t, int64_t ns, struct kvm_facts *ret)
{
	if (t->step && t->error) {
		snprintf(ret->detail, sizeof ret->detail, "%s: %s", t->step, strerrordesc_np(t->error) ?: "unknown error");
		return;
	}
	if (t->step) {
		snprintf(ret->detail, sizeof ret->detail, "a guest loop ended with exit reason %u", t->exit_reason);
		return;
	}
	ret->mips = ns > 0 ? (double)rounds(t) * INSTRUCTIONS * 1000 / (double)ns : 0;
	ret->usable = ret->mips >= MIPS_MIN;
	if (ret->usable)
		snprintf(ret->detail, sizeof ret->detail, "a guest loop reached %.0f million instructions a second", ret->mips);
	else
		snprintf(ret->detail, sizeof ret->detail,
			 "a guest loop reached only %.1f million instructions a second (at least %d are needed): this host interprets guest kernels",
			 ret->mips, MIPS_MIN);
}

static void try(struct trial *t, struct kvm_facts *ret)
{
	int64_t ns;
	int pidfd;
	pid_t parent = getpid(), pid = fork();

	if (pid == 0)
		run_guest(t, parent);
	if (pid < 0) {
		snprintf(ret->detail, sizeof ret->detail, "fork: %s", strerrordesc_np(errno));
		return;
	}
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	ns = wait_for_guest(t, pidfd);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close_fd(&pidfd);
	judge(t, ns, ret);
}

/* The guest's memory is shared, so the rounds can be counted from here even if the child never comes back from the kernel. */
static void measure(struct kvm_facts *ret)
{
	uint8_t *memory = mmap(NULL, 2 * GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct trial *t;

	*ret = (struct kvm_facts){ 0 };
	if (memory == MAP_FAILED) {
		snprintf(ret->detail, sizeof ret->detail, "memory for a guest: %s", strerrordesc_np(errno));
		return;
	}
	t = (struct trial *)(void *)(memory + GUEST_SIZE);
	t->guest = memory;
	memcpy(memory + CODE, code, sizeof code);
	try(t, ret);
	munmap(memory, 2 * GUEST_SIZE);
}

void kvm_probe(struct kvm_facts *ret)
{
	const char *assumed = getenv("FORKFS_KVM_MIPS");

	if (!assumed) {
		measure(ret);
		return;
	}
	*ret = (struct kvm_facts){ .mips = strtod(assumed, NULL) };
	ret->usable = ret->mips >= MIPS_MIN;
	snprintf(ret->detail, sizeof ret->detail, "FORKFS_KVM_MIPS says %.20s million instructions a second", assumed);
}
