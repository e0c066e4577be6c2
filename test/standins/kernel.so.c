// SPDX-License-Identifier: MIT
// Makes the real KVM answer like the KVM of another kernel. The tests list this library behind
// xsaveshim's library in LD_PRELOAD. This library makes no system calls of its own, so that it
// works under a VMM's seccomp filter. It supports only one vCPU.
//
//	KERNEL_LEAKS=MASK	KVM_GET_XSAVE and KVM_GET_XSAVE2 also set these bits of XSTATE_BV
//	KERNEL_STRICT=1		KVM_SET_XSAVE refuses FP and SSE if the guest's CPUID does not
//				enumerate them, like Linux from 5.17 to 5.19.11
//	KERNEL_TAKES_XCRS=1	KVM_SET_XCRS always succeeds, as if KVM had added the xfeatures in
//				XCR0 to the guest's CPUID table
#include "interposer.h"
#include "kvm.h"

static uint64_t guest_xcr0;

static int set_cpuid2(int fd, unsigned long request, const struct kvm_cpuid2 *table)
{
	int result = next_ioctl(fd, request, table);

	if (!result)
		guest_xcr0 = guest_xcr0_of(table->entries, table->nent);
	return result;
}

static int set_xsave(int fd, unsigned long request, const void *payload)
{
	if (getenv("KERNEL_STRICT") && (get_xstate_bv(payload) & ~guest_xcr0)) {
		errno = EINVAL;
		return -1;
	}
	return next_ioctl(fd, request, payload);
}

static int get_xsave(int fd, unsigned long request, void *payload)
{
	const char *leaks = getenv("KERNEL_LEAKS");
	int result = next_ioctl(fd, request, payload);

	if (!result && leaks)
		set_xstate_bv(payload, get_xstate_bv(payload) | strtoull(leaks, NULL, 0));
	return result;
}

static int on_ioctl(int fd, unsigned long request, void *argument)
{
	int result;

	switch ((uint32_t)request) {
	case KVM_SET_CPUID2:
		return set_cpuid2(fd, request, argument);
	case KVM_SET_XSAVE:
		return set_xsave(fd, request, argument);
	case KVM_GET_XSAVE:
	case KVM_GET_XSAVE2:
		return get_xsave(fd, request, argument);
	case KVM_SET_XCRS:
		result = next_ioctl(fd, request, argument);
		return getenv("KERNEL_TAKES_XCRS") ? 0 : result;
	default:
		return next_ioctl(fd, request, argument);
	}
}
