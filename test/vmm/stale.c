// SPDX-License-Identifier: MIT
// stale ROUNDS: saves into one buffer and then into another, for a guest that has FP and SSE only.
// Between the two calls it gives the first buffer an XSTATE_BV with AVX, which nobody may change.
// Prints in how many rounds it was changed.
#include "kvm.h"

#define OWN 0x207

int main(int argc, char **argv)
{
	struct leaf_0xd cpuid = LEAF_0XD(XFEATURES_FP_SSE);
	static unsigned char first[sizeof(struct kvm_xsave)], second[sizeof(struct kvm_xsave)];
	unsigned long rounds = argc == 2 ? strtoul(argv[1], NULL, 0) : 0;
	unsigned long changed = 0;
	int device = open(kvm_device(), O_RDWR | O_CLOEXEC);
	int vcpu = kvm_ioctl(kvm_ioctl(device, KVM_CREATE_VM, NULL), KVM_CREATE_VCPU, NULL);

	kvm_ioctl(vcpu, KVM_SET_CPUID2, &cpuid);
	for (unsigned long round = 0; round < rounds; round++) {
		kvm_ioctl(vcpu, KVM_GET_XSAVE, first);
		set_xstate_bv(first, OWN);
		kvm_ioctl(vcpu, KVM_GET_XSAVE, second);
		changed += get_xstate_bv(first) != OWN;
	}
	printf("rounds=%lu changed=%lu\n", rounds, changed);
	return 0;
}
