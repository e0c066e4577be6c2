// SPDX-License-Identifier: MIT
// Prints an xfeature that this host's KVM does not support, as "0x200 pkru": leaked into a snapshot, it is refused
// by KVM_SET_XSAVE on this host whatever its kernel. Exit status 2, and why, where there is none to be found.
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define MAX_ENTRIES 256

// What real hosts leaked: PKRU where there is no PKU, BNDCSR (MPX) on any KVM since 5.6.
static const struct {
	uint64_t bit;
	const char *name;
} candidates[] = {{1ULL << 9, "pkru"}, {1ULL << 4, "bndcsr"}};

static int fail(const char *what)
{
	fprintf(stderr, "leakable: %s: %s\n", what, strerror(errno));
	return 2;
}

static uint64_t supported_xfeatures(const struct kvm_cpuid2 *cpuid)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 0xd && cpuid->entries[i].index == 0)
			return (uint64_t)cpuid->entries[i].edx << 32 | cpuid->entries[i].eax;
	return 0;
}

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	static _Alignas(8) char room[sizeof(struct kvm_cpuid2) + MAX_ENTRIES * sizeof(struct kvm_cpuid_entry2)];
	struct kvm_cpuid2 *cpuid = (struct kvm_cpuid2 *)room;
	uint64_t supported;

	if (kvm < 0)
		return fail("/dev/kvm");
	cpuid->nent = MAX_ENTRIES;
	if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
		return fail("KVM_GET_SUPPORTED_CPUID");
	supported = supported_xfeatures(cpuid);
	for (size_t i = 0; i < sizeof(candidates) / sizeof(candidates[0]); i++) {
		if (!(supported & candidates[i].bit)) {
			printf("%#llx %s\n", (unsigned long long)candidates[i].bit, candidates[i].name);
			return 0;
		}
	}
	fprintf(stderr, "leakable: this host's KVM supports every xfeature we could leak (%#llx)\n",
		(unsigned long long)supported);
	return 2;
}
