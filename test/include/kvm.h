// SPDX-License-Identifier: MIT
// Functions and constants for test programs that call KVM. This file includes no header of
// include/xsaveshim/, so that the tests can find a wrong constant in these headers.
#ifndef TEST_KVM_H
#define TEST_KVM_H

#include <err.h>
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

// Debian 11's kernel headers lack KVM_GET_XSAVE2 and KVM_CAP_XSAVE2, which Linux 5.17 added.
#ifndef KVM_GET_XSAVE2
#define KVM_GET_XSAVE2 _IOR(KVMIO, 0xcf, struct kvm_xsave)
#endif
#ifndef KVM_CAP_XSAVE2
#define KVM_CAP_XSAVE2 208
#endif

// Byte offsets of the fields in a payload of KVM_SET_XSAVE (Intel SDM vol. 1, 13.4).
#define MXCSR 24
#define XSTATE_BV 512
#define XCOMP_BV 520
#define XSAVE_RESERVED 528
#define XSAVE_EXTENDED 576

// The value of MXCSR after a CPU reset.
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

static inline uint32_t get_mxcsr(const void *payload)
{
	uint32_t mxcsr;

	memcpy(&mxcsr, (const char *)payload + MXCSR, sizeof(mxcsr));
	return mxcsr;
}

static inline void set_mxcsr(void *payload, uint32_t mxcsr)
{
	memcpy((char *)payload + MXCSR, &mxcsr, sizeof(mxcsr));
}

// A CPUID table for KVM_SET_CPUID2 that has only leaf 0xD.
struct leaf_0xd {
	uint32_t nent, padding;
	struct kvm_cpuid_entry2 entry;
};

#define LEAF_0XD(xcr0) \
	{ \
		.nent = 1, .entry = {.function = 0xd, .eax = (xcr0) } \
	}

// A CPUID table with enough space for the result of KVM_GET_SUPPORTED_CPUID or KVM_GET_CPUID2.
struct cpuid_table {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entries[KVM_CPUID_ENTRIES_MAX];
};

// Returns the XCR0 (the xfeatures that the guest may use) of a guest that has this CPUID table.
// Like KVM, reads the first entry of leaf 0xD whose index is 0 or is not significant.
static inline uint64_t guest_xcr0_of(const struct kvm_cpuid_entry2 *entries, uint32_t nent)
{
	for (uint32_t i = 0; i < nent && i < KVM_CPUID_ENTRIES_MAX; i++) {
		const struct kvm_cpuid_entry2 *e = &entries[i];

		if (e->function == 0xd &&
		    (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || !e->index))
			return (uint64_t)e->edx << 32 | e->eax;
	}
	return 0;
}

static inline uint64_t xcr0_of_table(const struct cpuid_table *table)
{
	return guest_xcr0_of(table->entries, table->head.nent);
}

// Makes the system call without libc's ioctl(), so that no preloaded library sees the call.
static inline int raw_ioctl(int fd, unsigned long request, const void *argument)
{
	return (int)syscall(SYS_ioctl, fd, request, argument);
}

// Calls libc's ioctl(). If ioctl() fails with EINTR, repeats the call, because a signal can
// interrupt KVM_CREATE_VM. If ioctl() fails with another errno, ends the program with a message
// that names the request.
#define kvm_ioctl(fd, request, argument) kvm_ioctl_named(fd, request, argument, #request)

static inline int kvm_ioctl_named(int fd, unsigned int request, const void *argument,
				  const char *name)
{
	int result;

	do
		result = ioctl(fd, request, argument);
	while (result < 0 && errno == EINTR);
	if (result < 0)
		err(2, "%s", name);
	return result;
}

static inline const char *kvm_device(void)
{
	const char *device = getenv("DEVICE");

	return device ? device : "/dev/kvm";
}

static inline int open_kvm(void)
{
	int kvm = open(kvm_device(), O_RDWR | O_CLOEXEC);

	if (kvm < 0)
		err(2, "%s", kvm_device());
	return kvm;
}

#endif
