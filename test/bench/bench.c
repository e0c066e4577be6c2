// SPDX-License-Identifier: MIT
// bench unrelated	prints the time of an ioctl on /dev/null that is not a KVM ioctl, in ns
// bench run		prints the time of a KVM_RUN whose guest exits at once, in ns
// bench restore BV	prints the time of a KVM_SET_XSAVE of a payload whose XSTATE_BV is BV, in
//			ns. The guest has only x87 and SSE
// bench spawn PROGRAM [ARG...]	runs PROGRAM, and prints the time from its start to its end, in
//			microseconds
// bench rss		prints the resident memory of bench at the start of main(), in KiB
// bench nothing	ends at once
//
// Each printed time is the shortest of many measured times, because other processes can lengthen a
// time, but cannot shorten it. If the environment variable DEVICE is set, bench opens the file
// $DEVICE instead of /dev/kvm.
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "kvm.h"

#define PAGE 4096
#define UNRELATED 0x5678
#define CHUNKS 40

extern char **environ;

static long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000 + time.tv_nsec;
}

static int fd, kvm, vm;
static struct kvm_run *run;
static unsigned char payload[16384];
static uint64_t xstate_bv;

static void unrelated(void)
{
	ioctl(fd, UNRELATED, NULL);
}

static void run_guest(void)
{
	ioctl(fd, KVM_RUN, NULL);
	if (run->exit_reason != KVM_EXIT_IO)
		err(2, "KVM_RUN");
}

static void restore(void)
{
	set_xstate_bv(payload, xstate_bv);
	if (ioctl(fd, KVM_SET_XSAVE, payload))
		err(2, "KVM_SET_XSAVE");
}

// Makes CHUNKS chunks of calls. Each chunk has the same number of calls, and takes about a
// millisecond. Prints the mean time of a call in the fastest chunk, in ns.
static void measure(void (*call)(void))
{
	long count = 1, best = 0, time;

	do {
		long start = now();

		count *= 2;
		for (long i = 0; i < count; i++)
			call();
		time = now() - start;
	} while (time < 1000000);
	for (int chunk = 0; chunk < CHUNKS; chunk++) {
		long start = now();

		for (long i = 0; i < count; i++)
			call();
		time = (now() - start) * 10 / count;
		if (!best || time < best)
			best = time;
	}
	printf("%ld.%ld\n", best / 10, best % 10);
}

static void make_vcpu(void)
{
	struct leaf_0xd cpuid = LEAF_0XD(XFEATURES_FP_SSE);

	kvm = open_kvm();
	vm = kvm_ioctl(kvm, KVM_CREATE_VM, NULL);
	fd = kvm_ioctl(vm, KVM_CREATE_VCPU, NULL);
	kvm_ioctl(fd, KVM_SET_CPUID2, &cpuid);
}

// Creates a guest that repeats the instruction `out %al, $0x10` for ever.
static void make_guest(void)
{
	static const unsigned char code[] = {0xe6, 0x10, 0xeb, 0xfc};
	struct kvm_userspace_memory_region region = {.guest_phys_addr = PAGE, .memory_size = PAGE};
	struct kvm_regs regs = {.rip = PAGE, .rflags = 2};
	struct kvm_sregs sregs = {0};
	void *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	make_vcpu();
	if (memory == MAP_FAILED)
		err(2, "mmap");
	memcpy(memory, code, sizeof(code));
	region.userspace_addr = (uintptr_t)memory;
	kvm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
	kvm_ioctl(fd, KVM_GET_SREGS, &sregs);
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	kvm_ioctl(fd, KVM_SET_SREGS, &sregs);
	kvm_ioctl(fd, KVM_SET_REGS, &regs);
	run = mmap(NULL, (size_t)kvm_ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL),
		   PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (run == MAP_FAILED)
		err(2, "kvm_run");
}

static void spawn(char **arguments)
{
	long best = 0;

	for (int i = 0; i < CHUNKS / 4; i++) {
		long start = now(), time;
		int status;
		pid_t pid;

		if (posix_spawnp(&pid, arguments[0], NULL, NULL, arguments, environ) ||
		    waitpid(pid, &status, 0) != pid)
			err(2, "%s", arguments[0]);
		time = now() - start;
		if (status)
			err(2, "the program failed");
		if (!best || time < best)
			best = time;
	}
	printf("%ld\n", best / 1000);
}

static void print_rss(void)
{
	FILE *status = fopen("/proc/self/status", "re");
	char line[128];
	long kib;

	if (!status)
		err(2, "/proc/self/status");
	while (fgets(line, sizeof(line), status))
		if (sscanf(line, "VmRSS: %ld", &kib) == 1)
			printf("%ld\n", kib);
	fclose(status);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "nothing"))
		return 0;
	if (!strcmp(what, "unrelated")) {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		measure(unrelated);
	} else if (!strcmp(what, "run")) {
		make_guest();
		measure(run_guest);
	} else if (!strcmp(what, "restore") && argc == 3) {
		make_vcpu();
		xstate_bv = strtoull(argv[2], NULL, 0);
		measure(restore);
	} else if (!strcmp(what, "spawn") && argc > 2) {
		spawn(argv + 2);
	} else if (!strcmp(what, "rss")) {
		print_rss();
	} else {
		errx(2, "usage: bench unrelated|run|restore BV|spawn PROGRAM [ARG...]|rss|nothing");
	}
	return 0;
}
