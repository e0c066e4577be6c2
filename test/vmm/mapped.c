// SPDX-License-Identifier: MIT
/*
 * mapped private|shared FILE: restores the payload in FILE, mapped read-only, into a vCPU with FP and SSE. Prints what
 * KVM_SET_XSAVE returned and the XSTATE_BV in memory after it.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "errnos.h"

#define XSTATE_BV 512

int main(int argc, char **argv)
{
	struct {
		uint32_t nent, padding;
		struct kvm_cpuid_entry2 leaf;
	} cpuid = {.nent = 1, .leaf = {.function = 0xd, .eax = 3}};
	int flags = argc > 1 && !strcmp(argv[1], "shared") ? MAP_SHARED : MAP_PRIVATE;
	int file = argc > 2 ? open(argv[2], O_RDONLY | O_CLOEXEC) : -1;
	unsigned char *payload = mmap(NULL, sizeof(struct kvm_xsave), PROT_READ, flags, file, 0);
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = (int)syscall(SYS_ioctl, kvm, KVM_CREATE_VM, NULL);
	int vcpu = (int)syscall(SYS_ioctl, vm, KVM_CREATE_VCPU, 0);
	uint64_t xstate_bv;
	long result;

	if (payload == MAP_FAILED || syscall(SYS_ioctl, vcpu, KVM_SET_CPUID2, &cpuid)) {
		perror("mapped");
		return 2;
	}
	result = syscall(SYS_ioctl, vcpu, KVM_SET_XSAVE, payload);
	printf("%s", result ? errno_name(errno) : "0");
	memcpy(&xstate_bv, payload + XSTATE_BV, sizeof(xstate_bv));
	printf(" xstate_bv=0x%llx\n", (unsigned long long)xstate_bv);
	return 0;
}
