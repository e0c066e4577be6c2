// SPDX-License-Identifier: MIT
// Prints the bit and the name of an xfeature that this host's KVM does not support, for example
// "0x200 pkru". Whatever the kernel's version, this host's KVM refuses to load a payload that has
// this xfeature. If KVM supports both xfeatures of the list `candidates`, the program says so and
// exits with status 2.
#include "kvm.h"

// Real hosts have leaked these xfeatures. KVM supports PKRU only if the CPU has PKU, and BNDCSR
// only if the CPU has MPX.
static const struct {
	uint64_t bit;
	const char *name;
} candidates[] = {{1ULL << 9, "pkru"}, {1ULL << 4, "bndcsr"}};

int main(void)
{
	static struct cpuid_table cpuid = {.head = {.nent = KVM_CPUID_ENTRIES_MAX}};
	uint64_t supported;

	kvm_ioctl(open_kvm(), KVM_GET_SUPPORTED_CPUID, &cpuid);
	supported = xcr0_of_table(&cpuid);
	for (size_t i = 0; i < sizeof(candidates) / sizeof(candidates[0]); i++) {
		if (!(supported & candidates[i].bit)) {
			printf("%#llx %s\n", (unsigned long long)candidates[i].bit,
			       candidates[i].name);
			return 0;
		}
	}
	fprintf(stderr,
		"leakable: cannot test with an xfeature that KVM lacks: this host's KVM supports "
		"both PKRU and BNDCSR (all its xfeatures: %#llx)\n",
		(unsigned long long)supported);
	return 2;
}
