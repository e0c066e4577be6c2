// SPDX-License-Identifier: MIT
// KVM's interface as the test programs use it: calls, payloads and CPUID tables. It includes
// nothing of the core, so that a mistake in the core's numbers does not become the tests' mistake
// too.
#ifndef TEST_KVM_H
#define TEST_KVM_H

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

// Linux 5.17 brought these two; the headers of Debian 11 are older.
#ifndef KVM_GET_XSAVE2
#define KVM_GET_XSAVE2 _IOR(KVMIO, 0xcf, struct kvm_xsave)
#endif
#ifndef KVM_CAP_XSAVE2
#define KVM_CAP_XSAVE2 208
#endif

// Where the fields of a payload are: Intel SDM vol. 1, 13.4.
#define MXCSR 24
#define XSTATE_BV 512
#define XCOMP_BV 520
#define XSAVE_RESERVED 528
#define XSAVE_EXTENDED 576

// The processor's MXCSR after a reset. KVM refuses a payload whose MXCSR has a reserved bit.
#define MXCSR_DEFAULT 0x1f80u

#define XFEATURES_FP_SSE 3u
#define KVM_CPUID_ENTRIES_MAX 256

static inline uint64_t get_xstate_bv(const void *payload)
{
	uint64_t xstate_bv;

	memcpy(&xstate_bv, (const char *)payload + XSTATE_BV, sizeof(xstate_bv));
	return xstate_bv;
}

static inline void set_xstate_bv(void *payload, uint64_t xstate_bv)
{
	memcpy((char *)payload + XSTATE_BV, &xstate_bv, sizeof(xstate_bv));
}

static inline void set_mxcsr(void *payload, uint32_t mxcsr)
{
	memcpy((char *)payload + MXCSR, &mxcsr, sizeof(mxcsr));
}

// A CPUID table for KVM_SET_CPUID2 that holds leaf 0xD alone: the guest XCR0.
struct leaf_0xd {
	uint32_t nent, padding;
	struct kvm_cpuid_entry2 entry;
};

#define LEAF_0XD(xcr0) \
	{ \
		.nent = 1, .entry = {.function = 0xd, .eax = (xcr0) } \
	}

// Room for what KVM_GET_SUPPORTED_CPUID and KVM_GET_CPUID2 return.
struct cpuid_table {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entries[KVM_CPUID_ENTRIES_MAX];
};

// XCR0 as subleaf 0 of leaf 0xD has it; 0 where there is none.
static inline uint64_t xcr0_of_table(const struct cpuid_table *table)
{
	for (uint32_t i = 0; i < table->head.nent; i++)
		if (table->entries[i].function == 0xd && !table->entries[i].index)
			return (uint64_t)table->entries[i].edx << 32 | table->entries[i].eax;
	return 0;
}

// An ioctl by a system call of the program's own, which no preloaded library sees.
static inline int raw_ioctl(int fd, unsigned long request, const void *argument)
{
	return (int)syscall(SYS_ioctl, fd, request, argument);
}

// As ioctl(), through libc; but a failure ends the program, with a message that names the request.
// KVM_CREATE_VM fails with EINTR when a signal arrives, so this limit such a call.
#define kvm_ioctl(fd, request, argument) kvm_ioctl_named(fd, request, argument, #request)

static inline int kvm_ioctl_named(int fd, unsigned int request, const void *argument,
				  const char *name)
{
	int result;

	do
		result = ioctl(fd, request, argument);
	while (result < 0 && errno == EINTR);
	if (result < 0) {
		perror(name);
		exit(2);
	}
	return result;
}

// The file that DEVICE in the environment names stands in for /dev/kvm.
static inline const char *kvm_device(void)
{
	const char *device = getenv("DEVICE");

	return device ? device : "/dev/kvm";
}

static inline int open_kvm(void)
{
	int kvm = open(kvm_device(), O_RDWR | O_CLOEXEC);

	if (kvm < 0) {
		perror(kvm_device());
		exit(2);
	}
	return kvm;
}

#endif
