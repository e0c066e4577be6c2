// SPDX-License-Identifier: MIT
// Prints an xfeature that this host's KVM does not support, such as "0x200 pkru". Every kernel on
// this host refuses a payload with it. Exits with status 2 if KVM supports all candidates.
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm.h"

// Real hosts leaked PKRU to hosts without PKU. No KVM since 5.6 supports BNDCSR (MPX).
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
	fprintf(stderr, "leakable: this host's KVM supports PKRU and BNDCSR (%#llx)\n",
		(unsigned long long)supported);
	return 2;
}
