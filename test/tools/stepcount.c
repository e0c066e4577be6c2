// SPDX-License-Identifier: MIT
// stepcount LIBRARY: prints how many instructions the preloaded LIBRARY adds to each of many
// ioctls:
//
//	KVM_RUN without=18 with=21 added=3
//	0xae41 ...
//
// Each line is for one request that xsaveshim's library does not watch. A child process calls
// ioctl() between two breakpoints. stepcount single-steps the child from the first breakpoint to
// the second, and counts the steps. One child runs without LIBRARY, and another child preloads
// LIBRARY. Each call is on descriptor -1 and fails with EBADF, so that libc executes the same
// instructions each time.
#include <signal.h>
#include <stdbool.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "kvm.h"

#define MAX_REQUESTS 1024

static const uint32_t watched[] = {
	KVM_CREATE_VCPU,      KVM_SET_CPUID,	       KVM_SET_CPUID2,
	KVM_GET_CPUID2,	      KVM_GET_SUPPORTED_CPUID, KVM_SET_XSAVE,
	KVM_GET_XSAVE,	      KVM_GET_XSAVE2,	       KVM_SET_XCRS,
	KVM_SET_MSRS,	      KVM_SET_SREGS,	       KVM_SET_SREGS2,
	KVM_SET_VCPU_EVENTS,  KVM_SET_DEBUGREGS,       KVM_SET_LAPIC,
	KVM_SET_NESTED_STATE,
};

#define WATCHED (sizeof(watched) / sizeof(watched[0]))

static unsigned long requests[MAX_REQUESTS];
static size_t count;

static bool is_watched(uint32_t request)
{
	for (size_t i = 0; i < WATCHED; i++)
		if (request == watched[i])
			return true;
	return false;
}

static void add(unsigned long request)
{
	if (!is_watched((uint32_t)request) && count < MAX_REQUESTS)
		requests[count++] = request;
}

// Lists the ioctl requests for which stepcount counts instructions: first KVM_RUN, then all other
// KVM requests without an argument, then numbers that differ from a watched request by 1 or in one
// bit, and then the requests in `others`, each also with the upper 32 bits set.
static void list_requests(void)
{
	static const unsigned long others[] = {
		0,
		UINT32_MAX,
		FIONREAD,
		TIOCGWINSZ,
		KVM_GET_REGS,
		KVM_SET_REGS,
		KVM_GET_SREGS,
		KVM_GET_MSRS,
		KVM_IRQ_LINE,
		KVM_SIGNAL_MSI,
		KVM_IOEVENTFD,
		KVM_GET_XCRS,
		KVM_SET_USER_MEMORY_REGION,
		KVM_GET_VCPU_EVENTS,
		KVM_GET_LAPIC,
		KVM_GET_SREGS2,
		KVM_GET_DEBUGREGS,
		KVM_GET_NESTED_STATE,
	};

	add(KVM_RUN);
	for (unsigned int number = 0; number < 256; number++)
		if (_IO(KVMIO, number) != KVM_RUN)
			add(_IO(KVMIO, number));
	for (size_t i = 0; i < WATCHED; i++) {
		add(watched[i] - 1);
		add(watched[i] + 1);
		add(watched[i] ^ 1u << 31);
		add(watched[i] ^ 1u << 16);
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		add(others[i]);
		add(others[i] | ~0xffffffffUL);
	}
}

static _Noreturn void make_calls(void)
{
	ioctl(-1, 0, NULL);
	for (size_t i = 0; i < count; i++) {
		__asm__ volatile("int3");
		ioctl(-1, requests[i], NULL);
		__asm__ volatile("int3");
	}
	exit(0);
}

static _Noreturn void become_child(char *self, const char *library)
{
	char *const args[] = {self, NULL};

	setenv("LD_BIND_NOW", "1", 1);
	if (library)
		setenv("LD_PRELOAD", library, 1);
	else
		unsetenv("LD_PRELOAD");
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		err(2, "PTRACE_TRACEME");
	execv("/proc/self/exe", args);
	err(2, "/proc/self/exe");
}

// Resumes the child with the ptrace request `how`, and waits until the child stops again.
static void proceed(pid_t child, int how)
{
	int status;

	if (ptrace(how, child, NULL, NULL))
		err(2, "ptrace");
	if (waitpid(child, &status, 0) != child)
		err(2, "waitpid");
	if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
		errx(2, "the child did not stop with SIGTRAP");
}

static bool at_breakpoint(pid_t child)
{
	siginfo_t info;

	if (ptrace(PTRACE_GETSIGINFO, child, NULL, &info))
		err(2, "PTRACE_GETSIGINFO");
	return info.si_code == SI_KERNEL;
}

static void count_steps(char *self, const char *library, unsigned int *steps)
{
	pid_t child = fork();
	int status;

	if (child == -1)
		err(2, "fork");
	if (!child)
		become_child(self, library);
	if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
		errx(2, "the child did not stop after its execve");
	for (size_t i = 0; i < count; i++) {
		proceed(child, PTRACE_CONT);
		do {
			proceed(child, PTRACE_SINGLESTEP);
			steps[i]++;
		} while (!at_breakpoint(child));
	}
	if (ptrace(PTRACE_CONT, child, NULL, NULL) || waitpid(child, &status, 0) != child || status)
		errx(2, "the child did not exit with status 0");
}

int main(int argc, char **argv)
{
	static unsigned int without[MAX_REQUESTS], with[MAX_REQUESTS];

	list_requests();
	if (argc == 1)
		make_calls();
	if (access(argv[1], R_OK))
		err(2, "%s", argv[1]);
	count_steps(argv[0], NULL, without);
	count_steps(argv[0], argv[1], with);
	for (size_t i = 0; i < count; i++) {
		if (i)
			printf("0x%lx", requests[i]);
		else
			printf("KVM_RUN");
		printf(" without=%u with=%u added=%d\n", without[i], with[i],
		       (int)(with[i] - without[i]));
	}
	return 0;
}
