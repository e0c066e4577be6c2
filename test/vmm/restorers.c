// SPDX-License-Identifier: MIT
// restorers THREADS ROUNDS MASK [interrupted]: starts THREADS threads, each with its own vCPU. In
// each of ROUNDS rounds, each thread calls KVM_SET_XSAVE with a payload (an XSAVE buffer) that has
// FP, SSE, AVX and the xfeatures in MASK. The threads make the system call without libc's ioctl().
// For each vCPU, the program prints a line "ID: N": ID is the vCPU's number, and N is the number of
// payloads that after the call had exactly the xfeatures that the vCPU's CPUID shows. If a call
// fails, its thread prints a line with the error, and makes no more calls.
//
// With "interrupted", a timer sends each thread SIGUSR1 every half millisecond, and the kernel
// restarts the interrupted call. Without "interrupted", there is no timer, and if another process
// sends SIGUSR1, the kernel does not restart the interrupted call.
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>

#include "kvm.h"

#define THREADS_MAX 64

static int vm;
static int rounds;
static uint64_t leaked;
static bool interrupted;

// Returns the XCR0 that the vCPU's CPUID shows: FP, SSE and, if the vCPU's number is odd, AVX.
static uint64_t xcr0_of(long id)
{
	return id % 2 ? 7 : 3;
}

static void ignore(int number)
{
	(void)number;
}

static void start_signals(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
	struct itimerspec often = {.it_interval.tv_nsec = 500000, .it_value.tv_nsec = 500000};
	timer_t timer;

	event._sigev_un._tid = (int)syscall(SYS_gettid);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &often, NULL))
		perror("timer");
}

static int create_vcpu(long id)
{
	struct leaf_0xd cpuid = LEAF_0XD((uint32_t)xcr0_of(id));
	int vcpu = raw_ioctl(vm, KVM_CREATE_VCPU, (void *)id);

	return raw_ioctl(vcpu, KVM_SET_CPUID2, &cpuid) ? -1 : vcpu;
}

static void *vcpu_main(void *arg)
{
	long id = (long)(intptr_t)arg;
	unsigned char payload[sizeof(struct kvm_xsave)] = {0};
	int vcpu = create_vcpu(id), trimmed = 0;

	set_mxcsr(payload, MXCSR_DEFAULT);
	if (vcpu == -1)
		printf("%ld: %s\n", id, strerror(errno));
	if (interrupted)
		start_signals();
	for (int round = 0; vcpu != -1 && round < rounds; round++) {
		set_xstate_bv(payload, leaked | 7);
		if (raw_ioctl(vcpu, KVM_SET_XSAVE, payload)) {
			printf("%ld: %s\n", id, strerror(errno));
			break;
		}
		trimmed += get_xstate_bv(payload) == xcr0_of(id);
	}
	printf("%ld: %d\n", id, trimmed);
	return arg;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = ignore};
	pthread_t threads[THREADS_MAX];
	sigset_t signals;
	int count = argc > 3 ? atoi(argv[1]) : 0;

	if (count < 1 || count > THREADS_MAX)
		errx(2, "usage: restorers THREADS ROUNDS MASK [interrupted]");
	rounds = atoi(argv[2]);
	leaked = strtoull(argv[3], NULL, 0);
	interrupted = argc > 4 && !strcmp(argv[4], "interrupted");
	action.sa_flags = interrupted ? SA_RESTART : 0;
	sigaction(SIGUSR1, &action, NULL);
	vm = raw_ioctl(open_kvm(), KVM_CREATE_VM, NULL);
	for (long id = 0; id < count; id++)
		if (pthread_create(&threads[id], NULL, vcpu_main, (void *)(intptr_t)id))
			return 2;
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
