// SPDX-License-Identifier: MIT
// callcost: prints the least number of TSC ticks that each kind of call takes. If the TSC counts
// instructions (test/kernels/run --icount), it is the number of instructions that the machine
// executes.
#include <sys/mman.h>
#include <x86intrin.h>

#include "kvm.h"

#define ROUNDS 300

static int vcpu, pipes[2];
static unsigned char payload[sizeof(struct kvm_xsave)];

// Returns before it enters the guest, which would never return under -icount.
static void run_guest(void)
{
	raw_ioctl(vcpu, KVM_RUN, NULL);
}

static void other_file(void)
{
	int readable = 0;

	raw_ioctl(pipes[0], 0x541b, &readable); // FIONREAD
}

static void unrelated_vcpu_ioctl(void)
{
	raw_ioctl(vcpu, KVM_GET_TSC_KHZ, NULL);
}

static void load_clean(void)
{
	set_xstate_bv(payload, XFEATURES_FP_SSE);
	raw_ioctl(vcpu, KVM_SET_XSAVE, payload);
}

static void load_leaked(void)
{
	set_xstate_bv(payload, 0x207);
	raw_ioctl(vcpu, KVM_SET_XSAVE, payload);
}

static void save(void)
{
	raw_ioctl(vcpu, KVM_GET_XSAVE, payload);
}

static const struct {
	const char *name;
	void (*call)(void);
} calls[] = {
	{"other-file", other_file},
	{"unrelated-vcpu-ioctl", unrelated_vcpu_ioctl},
	{"load-clean", load_clean},
	{"load-leaked", load_leaked},
	{"save", save},
	{"KVM_RUN", run_guest},
};

static void make_vcpu(void)
{
	struct leaf_0xd cpuid = LEAF_0XD(XFEATURES_FP_SSE);
	int device = open(kvm_device(), O_RDWR | O_CLOEXEC);
	int size = kvm_ioctl(device, KVM_GET_VCPU_MMAP_SIZE, NULL);
	struct kvm_run *run;

	vcpu = kvm_ioctl(kvm_ioctl(device, KVM_CREATE_VM, NULL), KVM_CREATE_VCPU, NULL);
	kvm_ioctl(vcpu, KVM_SET_CPUID2, &cpuid);
	set_mxcsr(payload, MXCSR_DEFAULT);
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	run->immediate_exit = 1;
}

int main(void)
{
	make_vcpu();
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (pipe(pipes))
		return 2;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		uint64_t least = UINT64_MAX;

		for (int round = 0; round < ROUNDS; round++) {
			uint64_t start = __rdtsc();
			uint64_t ticks;

			calls[i].call();
			ticks = __rdtsc() - start;
			least = ticks < least ? ticks : least;
		}
		printf("%s %llu\n", calls[i].name, (unsigned long long)least);
	}
	return 0;
}
