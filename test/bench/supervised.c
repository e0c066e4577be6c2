// SPDX-License-Identifier: MIT
/*
 * What the supervisor costs a VMM: one process as it is and one under `xsaveshim run --supervise` make the same calls in
 * turn, a batch each; the medians of all batches are told, in nanoseconds per call.
 *
 *	supervised build/xsaveshim
 *
 * foreign: an ioctl that is none of the supervisor's business. It pays for the supervisor's filter and, in a VMM that has
 * no filter of its own, for the kernel's looking for filters at all: so it is measured in one that has, too.
 * cpuid, xsave: KVM_SET_CPUID2 and KVM_SET_XSAVE, which wait for the supervisor's answer. Nothing is trimmed.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 200
#define XSTATE_BV 512
#define MXCSR 24

enum kind { FOREIGN, CPUID, XSAVE };

static const char *const kind_names[] = {"foreign", "cpuid", "xsave"};
static const int calls_per_batch[] = {2000, 20, 100};

static unsigned char payload[sizeof(struct kvm_xsave)];
static struct {
	uint32_t nent, padding;
	struct kvm_cpuid_entry2 leaf;
} cpuid = {.nent = 1, .leaf = {.function = 0xd, .eax = 3}};

static void call(enum kind kind, int vcpu)
{
	long result = 0;

	if (kind == FOREIGN)
		syscall(SYS_ioctl, -1, KVM_GET_REGS, NULL);
	else if (kind == CPUID)
		result = syscall(SYS_ioctl, vcpu, KVM_SET_CPUID2, &cpuid);
	else
		result = syscall(SYS_ioctl, vcpu, KVM_SET_XSAVE, payload);
	if (result)
		err(1, "%s", kind_names[kind]);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* As those VMMs have that need a supervisor: which ioctl may be called depends on the request. */
static void confine(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 2),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KVM_CREATE_VM, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		err(1, "a filter");
}

static double measure(enum kind kind, int vcpu)
{
	double start = now();

	for (int i = 0; i < calls_per_batch[kind]; i++)
		call(kind, vcpu);
	return (now() - start) / calls_per_batch[kind];
}

/* Makes a batch of calls for each kind that is asked for, and answers with the time that one took. */
static int be_vmm(int confined)
{
	const uint64_t xstate_bv = 3;
	const uint32_t mxcsr = 0x1f80;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = (int)syscall(SYS_ioctl, kvm, KVM_CREATE_VM, 0);
	int vcpu = (int)syscall(SYS_ioctl, vm, KVM_CREATE_VCPU, 0);
	enum kind kind;

	if (vcpu < 0)
		err(1, "/dev/kvm");
	memcpy(payload + XSTATE_BV, &xstate_bv, sizeof(xstate_bv));
	memcpy(payload + MXCSR, &mxcsr, sizeof(mxcsr));
	if (confined)
		confine();
	while (read(STDIN_FILENO, &kind, sizeof(kind)) == sizeof(kind)) {
		double time = measure(kind, vcpu);

		if (write(STDOUT_FILENO, &time, sizeof(time)) != sizeof(time))
			return 1;
	}
	return 0;
}

struct vmm {
	int to, from;
};

static struct vmm start(char **argv)
{
	int to[2], from[2];
	pid_t pid;

	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
		err(1, "pipe");
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		dup2(to[0], STDIN_FILENO);
		dup2(from[1], STDOUT_FILENO);
		execv(argv[0], argv);
		err(1, "%s", argv[0]);
	}
	close(to[0]);
	close(from[1]);
	return (struct vmm){to[1], from[0]};
}

static double ask(struct vmm vmm, enum kind kind)
{
	double time;

	if (write(vmm.to, &kind, sizeof(kind)) != sizeof(kind) || read(vmm.from, &time, sizeof(time)) != sizeof(time))
		errx(1, "a VMM has ended");
	return time;
}

static int compare(const void *a, const void *b)
{
	double one = *(const double *)a, other = *(const double *)b;

	return (one > other) - (one < other);
}

static double median(double *times)
{
	qsort(times, ROUNDS, sizeof(times[0]), compare);
	return times[ROUNDS / 2];
}

static void compete(const char *where, enum kind kind, struct vmm bare, struct vmm supervised)
{
	static double without[ROUNDS], with[ROUNDS];

	for (int round = 0; round < ROUNDS; round++) {
		without[round] = ask(bare, kind);
		with[round] = ask(supervised, kind);
	}
	printf("%s, %s: bare %.0f ns, supervised %.0f ns, added %.0f ns", kind_names[kind], where, median(without),
	       median(with), median(with) - median(without));
	printf(" (best batches: %.0f, %.0f, added %.0f)\n", without[0], with[0], with[0] - without[0]);
}

int main(int argc, char **argv)
{
	char own[4096] = "", run[] = "run", supervise[] = "--supervise", be_plain[] = "be-plain", be_confined[] = "be-confined";
	struct vmm bare, supervised;

	if (argc != 2)
		errx(2, "usage: supervised XSAVESHIM");
	if (!strcmp(argv[1], be_plain) || !strcmp(argv[1], be_confined))
		return be_vmm(!strcmp(argv[1], be_confined));
	if (readlink("/proc/self/exe", own, sizeof(own) - 1) < 0)
		err(1, "/proc/self/exe");
	bare = start((char *[]){own, be_plain, NULL});
	supervised = start((char *[]){argv[1], run, supervise, own, be_plain, NULL});
	compete("no other filter", FOREIGN, bare, supervised);
	compete("no other filter", CPUID, bare, supervised);
	compete("no other filter", XSAVE, bare, supervised);
	bare = start((char *[]){own, be_confined, NULL});
	supervised = start((char *[]){argv[1], run, supervise, own, be_confined, NULL});
	compete("behind a filter", FOREIGN, bare, supervised);
	compete("behind a filter", XSAVE, bare, supervised);
	return 0;
}
