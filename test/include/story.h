// SPDX-License-Identifier: MIT
#ifndef TEST_STORY_H
#define TEST_STORY_H

#include "errnos.h"
#include "kvm.h"

/* The type of libc's ioctl(). `request` is an int in musl, and an unsigned long in glibc. */
typedef __typeof__(ioctl) story_ioctl;

// Creates a vCPU whose guest lacks AVX. Calls KVM_SET_XSAVE on this vCPU with a payload that has
// x87, SSE and AVX. Prints "WHEN: RESULT xstate_bv=AFTER". WHEN is the text `when`, RESULT is 0 or
// the name of an errno, and AFTER is the payload's XSTATE_BV after the call.
static inline void story_of(const char *device, const char *when, story_ioctl *call)
{
	static struct leaf_0xd cpuid = LEAF_0XD(XFEATURES_FP_SSE);
	static unsigned char payload[sizeof(struct kvm_xsave)];
	int kvm = open(device ? device : "/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = call(kvm, KVM_CREATE_VM, NULL);
	int vcpu = call(vm, KVM_CREATE_VCPU, NULL);
	int set_cpuid = call(vcpu, KVM_SET_CPUID2, &cpuid);
	int result;

	set_xstate_bv(payload, 7);
	result = call(vcpu, KVM_SET_XSAVE, payload);
	if (kvm == -1 || vm == -1 || vcpu == -1 || set_cpuid == -1)
		dprintf(1, "%s: could not get as far as KVM_SET_XSAVE: %s\n", when,
			errno_name(errno));
	else
		dprintf(1, "%s: %s xstate_bv=0x%llx\n", when, result ? errno_name(errno) : "0",
			(unsigned long long)get_xstate_bv(payload));
}

static inline void story(const char *when, story_ioctl *call)
{
	story_of(getenv("DEVICE"), when, call);
}

#endif
