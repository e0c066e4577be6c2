// SPDX-License-Identifier: MIT
// crowd THREADS ROUNDS [PAUSE]: each thread has a vCPU whose CPUID shows only FP and SSE. In each
// round, the thread calls KVM_SET_XSAVE with a payload (an XSAVE buffer) that has AVX and PKRU, and
// then with a payload that every KVM refuses. Then the thread calls KVM_GET_XSAVE, and sleeps for
// PAUSE microseconds. With ROUNDS 0 the program runs until somebody kills it. At the end, the
// program prints "loads=N untrimmed=N refusals=N saves=N". Each N counts rounds of all threads:
// - loads: all rounds
// - untrimmed: rounds in which the first KVM_SET_XSAVE left AVX or PKRU in the payload
// - refusals: rounds in which the second KVM_SET_XSAVE failed
// - saves: rounds in which KVM_GET_XSAVE succeeded
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "kvm.h"

#define MAX_THREADS 256
#define GIVEN 0x207

static atomic_ulong loads, untrimmed, refusals, saves;
static unsigned long rounds;
static unsigned int pause_us;
static int device;

static void *crowd(void *unused)
{
	struct leaf_0xd cpuid = LEAF_0XD(XFEATURES_FP_SSE);
	unsigned char payload[sizeof(struct kvm_xsave)] = {0};
	const uint64_t compact = 1;
	int vcpu = kvm_ioctl(kvm_ioctl(device, KVM_CREATE_VM, NULL), KVM_CREATE_VCPU, NULL);

	(void)unused;
	kvm_ioctl(vcpu, KVM_SET_CPUID2, &cpuid);
	for (unsigned long round = 0; !rounds || round < rounds; round++) {
		memset(payload, 0, sizeof(payload));
		set_mxcsr(payload, MXCSR_DEFAULT);
		set_xstate_bv(payload, GIVEN);
		raw_ioctl(vcpu, KVM_SET_XSAVE, payload);
		loads++;
		untrimmed += get_xstate_bv(payload) != XFEATURES_FP_SSE;
		memcpy(payload + XCOMP_BV, &compact, sizeof(compact));
		set_xstate_bv(payload, XFEATURES_FP_SSE);
		refusals += raw_ioctl(vcpu, KVM_SET_XSAVE, payload) < 0;
		saves += !raw_ioctl(vcpu, KVM_GET_XSAVE, payload);
		// If QEMU emulates all CPUs on one thread, QEMU switches to the next CPU at this
		// instruction. Without this instruction, QEMU switches only ten times a second.
		__builtin_ia32_pause();
		if (pause_us)
			usleep(pause_us);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	static pthread_t threads[MAX_THREADS];
	int count = argc == 3 || argc == 4 ? atoi(argv[1]) : 0;

	if (count < 1 || count > MAX_THREADS) {
		fputs("usage: crowd THREADS ROUNDS [PAUSE]\n", stderr);
		return 2;
	}
	rounds = strtoul(argv[2], NULL, 0);
	pause_us = argc == 4 ? (unsigned int)atoi(argv[3]) : 0;
	device = open(kvm_device(), O_RDWR | O_CLOEXEC);
	for (int i = 0; i < count; i++)
		pthread_create(&threads[i], NULL, crowd, NULL);
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	printf("loads=%lu untrimmed=%lu refusals=%lu saves=%lu\n", loads, untrimmed, refusals,
	       saves);
	return 0;
}
