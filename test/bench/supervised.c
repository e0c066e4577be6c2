// SPDX-License-Identifier: MIT
// Measures how much time xsaveshim's supervisor adds to an ioctl. Several processes make the same
// calls, and differ only in their seccomp filters and supervisors. In each round, each process in
// turn makes one batch of calls. The time of a batch is the mean time of a call in this batch, in
// ns. Prints a table with a row for each process. The rows form groups. The processes of a group
// make calls of the same kind. The first process of a group is the base for the others. Columns:
// - ns per call: the median time of the process's batches
// - added, median: for each round, the program subtracts the time of the base's batch from the time
//   of the process's batch. The column has the median of these differences
// - added, best: the time of the process's fastest batch minus the time of the base's fastest batch
//
//	supervised build/xsaveshim
//
// The processes that run without xsaveshim show how much time the kernel's seccomp code adds.
// There are three kinds of calls:
// - unrelated: an ioctl that the supervisor does not watch. Every seccomp filter adds time to each
//   system call. Since Linux 5.11, the kernel does not run a filter that allows everything, but
//   even such a filter adds time. A filter that compares the request of each ioctl adds more time,
//   and a supervisor needs a filter that compares the request.
// - KVM_SET_XSAVE: the call waits for the supervisor's answer. The guest may use all xfeatures of
//   the payload, so the supervisor changes nothing. The process "answered at once" does not have
//   xsaveshim's supervisor. Its supervisor lets the kernel execute each call, without looking at
//   the call. So this process shows the least time that a supervisor can add. Without /dev/kvm, the
//   processes make this call on /dev/null. Because /dev/null is no vCPU, xsaveshim's supervisor does
//   not read the payload. Then the kernel refuses the call.
// - KVM_SET_CPUID2: this call waits for the supervisor's answer, too. Without /dev/kvm, the
//   processes do not make this call.
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
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

#include "kvm.h"

// The kernel headers of some distributions lack these two constants.
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

#define ROUNDS 201

enum kind { UNRELATED, CPUID, XSAVE };

static const char *const kind_names[] = {"unrelated", "KVM_SET_CPUID2", "KVM_SET_XSAVE"};
static const int calls_per_batch[] = {4000, 20, 100};

// Each process that makes the calls has one of these words as argv[1]. The word tells which seccomp
// filter the process installs: none (bare), one that allows everything (allowing), one that
// compares the request of each ioctl (comparing), or one whose supervisor answers at once
// (answered).
static char bare[] = "bare", allowing[] = "allowing", comparing[] = "comparing",
	    answered[] = "answered";

static unsigned char payload[sizeof(struct kvm_xsave)];
static struct leaf_0xd cpuid = LEAF_0XD(XFEATURES_FP_SSE);

// The descriptor of the vCPU, or of /dev/null if there is no /dev/kvm.
static int vcpu;
static bool has_kvm;

static void call(enum kind kind)
{
	int result = 0;

	if (kind == UNRELATED)
		raw_ioctl(-1, KVM_GET_REGS, NULL);
	else if (kind == CPUID)
		result = raw_ioctl(vcpu, KVM_SET_CPUID2, &cpuid);
	else
		result = raw_ioctl(vcpu, KVM_SET_XSAVE, payload);
	if (result && (has_kvm || errno != ENOTTY))
		err(1, "%s", kind_names[kind]);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

// Installs a seccomp filter. If `flags` has SECCOMP_FILTER_FLAG_NEW_LISTENER, returns the
// descriptor of the filter's listener.
static int confine(struct sock_filter *filter, size_t length, unsigned long flags)
{
	struct sock_fprog program = {.len = (unsigned short)length, .filter = filter};
	int result;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		err(1, "no_new_privs");
	result = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			      flags | SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program);
	if (result < 0)
		err(1, "a filter");
	return result;
}

static void allow_everything(void)
{
	struct sock_filter filter[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};

	confine(filter, sizeof(filter) / sizeof(filter[0]), 0);
}

// Installs a seccomp filter that returns `action` for an ioctl with this request, and allows every
// other ioctl and system call.
static int compare_request(uint32_t request, uint32_t action, unsigned long flags)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 2),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, request, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, action),
	};

	return confine(filter, sizeof(filter) / sizeof(filter[0]), flags);
}

static _Noreturn void answer_everything(int listener)
{
	struct seccomp_notif request = {0};
	struct seccomp_notif_resp response = {.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	while (!ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request)) {
		response.id = request.id;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
		memset(&request, 0, sizeof(request));
	}
	err(1, "a listener");
}

// Starts a supervisor process that shares this process's descriptors. Then installs a seccomp
// filter that sends every KVM_SET_XSAVE to the supervisor. The supervisor starts first, so that the
// filter does not apply to the supervisor.
static void be_answered(void)
{
	int number[2], listener;
	pid_t pid;

	if (pipe2(number, O_CLOEXEC))
		err(1, "pipe");
	pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, 0);
	if (pid < 0)
		err(1, "clone");
	if (!pid && read(number[0], &listener, sizeof(listener)) == sizeof(listener))
		answer_everything(listener);
	listener = compare_request(
		KVM_SET_XSAVE, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
	if (write(number[1], &listener, sizeof(listener)) != sizeof(listener))
		err(1, "pipe");
}

static double measure(enum kind kind)
{
	double start = now();

	for (int i = 0; i < calls_per_batch[kind]; i++)
		call(kind);
	return (now() - start) / calls_per_batch[kind];
}

static void create_vcpu(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = raw_ioctl(kvm, KVM_CREATE_VM, NULL);

	has_kvm = kvm >= 0;
	vcpu = has_kvm ? raw_ioctl(vm, KVM_CREATE_VCPU, NULL)
		       : open("/dev/null", O_RDWR | O_CLOEXEC);
	if (vcpu < 0)
		err(1, "a vCPU");
}

// Creates a vCPU, and installs the filter that `how` names. Then reads values of enum kind from
// standard input. For each value, makes a batch of calls of this kind, and writes the mean time of
// a call to standard output.
static int be_vmm(const char *how)
{
	enum kind kind;

	set_xstate_bv(payload, XFEATURES_FP_SSE);
	set_mxcsr(payload, MXCSR_DEFAULT);
	create_vcpu();
	if (!strcmp(how, allowing))
		allow_everything();
	else if (!strcmp(how, comparing))
		compare_request(KVM_CREATE_VM, SECCOMP_RET_KILL_PROCESS, 0);
	else if (!strcmp(how, answered))
		be_answered();
	while (read(STDIN_FILENO, &kind, sizeof(kind)) == sizeof(kind)) {
		double time = measure(kind);

		if (write(STDOUT_FILENO, &time, sizeof(time)) != sizeof(time))
			return 1;
	}
	return 0;
}

struct vmm {
	const char *name;
	int to, from;
	double times[ROUNDS], added[ROUNDS];
};

static void start(struct vmm *vmm, const char *name, char **argv)
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
	vmm->name = name;
	vmm->to = to[1];
	vmm->from = from[0];
}

static double time_batch(const struct vmm *vmm, enum kind kind)
{
	double time;

	if (write(vmm->to, &kind, sizeof(kind)) != sizeof(kind) ||
	    read(vmm->from, &time, sizeof(time)) != sizeof(time))
		errx(1, "the measured process \"%s\" has ended", vmm->name);
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

static void compete(enum kind kind, struct vmm **vmms, size_t count)
{
	for (int round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < count; i++) {
			vmms[i]->times[round] = time_batch(vmms[i], kind);
			vmms[i]->added[round] = vmms[i]->times[round] - vmms[0]->times[round];
		}
	}
	for (size_t i = 0; i < count; i++) {
		printf("| %s | %s | %.0f |", kind_names[kind], vmms[i]->name,
		       median(vmms[i]->times));
		if (i)
			printf(" %.0f | %.0f |\n", median(vmms[i]->added),
			       vmms[i]->times[0] - vmms[0]->times[0]);
		else
			puts(" | |");
	}
}

int main(int argc, char **argv)
{
	static struct vmm plain, any_filter, filtered, supervised, filtered_supervised,
		answered_at_once;
	char own[4096] = "", run[] = "run", supervise[] = "--supervise";

	if (argc != 2)
		errx(2, "usage: supervised XSAVESHIM");
	if (!strcmp(argv[1], bare) || !strcmp(argv[1], allowing) || !strcmp(argv[1], comparing) ||
	    !strcmp(argv[1], answered))
		return be_vmm(argv[1]);
	if (readlink("/proc/self/exe", own, sizeof(own) - 1) < 0)
		err(1, "/proc/self/exe");
	start(&plain, "bare", (char *[]){own, bare, NULL});
	start(&any_filter, "with a filter that allows everything", (char *[]){own, allowing, NULL});
	start(&filtered, "with a filter that compares the request",
	      (char *[]){own, comparing, NULL});
	start(&answered_at_once, "answered at once", (char *[]){own, answered, NULL});
	start(&supervised, "supervised", (char *[]){argv[1], run, supervise, own, bare, NULL});
	start(&filtered_supervised, "supervised, with a filter that compares the request",
	      (char *[]){argv[1], run, supervise, own, comparing, NULL});
	puts("| call | process | ns per call | added, median | added, best |\n"
	     "| --- | --- | --- | --- | --- |");
	compete(UNRELATED, (struct vmm *[]){&plain, &any_filter, &filtered, &supervised}, 4);
	compete(UNRELATED, (struct vmm *[]){&filtered, &filtered_supervised}, 2);
	compete(XSAVE, (struct vmm *[]){&plain, &answered_at_once, &supervised}, 3);
	if (!access("/dev/kvm", R_OK | W_OK))
		compete(CPUID, (struct vmm *[]){&plain, &supervised}, 2);
	return 0;
}
