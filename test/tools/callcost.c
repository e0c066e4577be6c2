// SPDX-License-Identifier: MIT
// callcost: makes each ioctl of the list `calls` 300 times, and prints for each ioctl how many TSC
// ticks its fastest call took. If the TSC counts instructions (test/kernels/run --icount), the
// number of ticks is the number of instructions that the emulated machine executed during the call.
#include <sys/mman.h>
#include <x86intrin.h>

#include "kvm.h"

#define ROUNDS 300

static const struct {
	const char *name;
	unsigned long request;
	uint64_t xstate_bv;
} calls[] = {
	{"other-file", FIONREAD, 0},
	{"unrelated-vcpu-ioctl", KVM_GET_TSC_KHZ, 0},
	{"load-clean", KVM_SET_XSAVE, XFEATURES_FP_SSE},
	{"load-leaked", KVM_SET_XSAVE, 0x207},
	{"save", KVM_GET_XSAVE, 0},
	{"KVM_RUN", KVM_RUN, 0}, // returns before the guest runs (immediate_exit)
};

static int make_vcpu(void)
{
	struct leaf_0xd cpuid = LEAF_0XD(XFEATURES_FP_SSE);
	int device = open_kvm();
	int size = kvm_ioctl(device, KVM_GET_VCPU_MMAP_SIZE, NULL);
	int vcpu = kvm_ioctl(kvm_ioctl(device, KVM_CREATE_VM, NULL), KVM_CREATE_VCPU, NULL);
	struct kvm_run *run;

	kvm_ioctl(vcpu, KVM_SET_CPUID2, &cpuid);
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		err(2, "mmap");
	run->immediate_exit = 1;
	return vcpu;
}

int main(void)
{
	static unsigned char payload[sizeof(struct kvm_xsave)];
	int vcpu = make_vcpu();
	int pipes[2];

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (pipe(pipes))
		return 2;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		int fd = calls[i].request == FIONREAD ? pipes[0] : vcpu;
		void *argument = calls[i].request == KVM_RUN || calls[i].request == KVM_GET_TSC_KHZ
					 ? NULL
					 : payload;
		uint64_t least = UINT64_MAX;

		for (int round = 0; round < ROUNDS; round++) {
			uint64_t start, ticks;

			memset(payload, 0, sizeof(payload));
			set_mxcsr(payload, MXCSR_DEFAULT);
			set_xstate_bv(payload, calls[i].xstate_bv);
			start = __rdtsc();
			raw_ioctl(fd, calls[i].request, argument);
			ticks = __rdtsc() - start;
			least = ticks < least ? ticks : least;
		}
		printf("%s %llu\n", calls[i].name, (unsigned long long)least);
	}
	return 0;
}
