// SPDX-License-Identifier: MIT
// mapped private|shared FILE: maps FILE read-only (MAP_PRIVATE or MAP_SHARED), and calls
// KVM_SET_XSAVE with the mapping as the payload (the XSAVE buffer). The vCPU's CPUID shows only FP
// and SSE. Prints the result of KVM_SET_XSAVE, and the XSTATE_BV in the mapping after the call.
#include <sys/mman.h>

#include "errnos.h"
#include "kvm.h"

int main(int argc, char **argv)
{
	struct leaf_0xd cpuid = LEAF_0XD(XFEATURES_FP_SSE);
	int flags = argc > 1 && !strcmp(argv[1], "shared") ? MAP_SHARED : MAP_PRIVATE;
	int file = argc > 2 ? open(argv[2], O_RDONLY | O_CLOEXEC) : -1;
	unsigned char *payload = mmap(NULL, sizeof(struct kvm_xsave), PROT_READ, flags, file, 0);
	int vm = raw_ioctl(open_kvm(), KVM_CREATE_VM, NULL);
	int vcpu = raw_ioctl(vm, KVM_CREATE_VCPU, NULL);
	int result;

	if (payload == MAP_FAILED || raw_ioctl(vcpu, KVM_SET_CPUID2, &cpuid)) {
		perror("mapped");
		return 2;
	}
	result = raw_ioctl(vcpu, KVM_SET_XSAVE, payload);
	printf("%s", result ? errno_name(errno) : "0");
	printf(" xstate_bv=0x%llx\n", (unsigned long long)get_xstate_bv(payload));
	return 0;
}
