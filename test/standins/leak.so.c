// SPDX-License-Identifier: MIT
// Makes the host leaky for the VMM that preloads it, while the file LEAK_WHILE exists.
//
//	LEAK_BITS=MASK	KVM_GET_XSAVE and KVM_GET_XSAVE2 also set these bits of XSTATE_BV.
//			KVM_SET_XSAVE takes them back, as a VMM that resumes loads what it saved
//	LEAK_XCR0=XCR0	KVM_GET_XCRS returns this XCR0
#include <stdbool.h>

#include "interposer.h"
#include "kvm.h"

static const char *leak_while;
static uint64_t leak_bits;
static uint64_t leak_xcr0;

__attribute__((constructor)) static void start(void)
{
	const char *bits = getenv("LEAK_BITS");
	const char *xcr0 = getenv("LEAK_XCR0");

	leak_bits = bits ? strtoull(bits, NULL, 0) : 0;
	leak_xcr0 = xcr0 ? strtoull(xcr0, NULL, 0) : 0;
	leak_while = getenv("LEAK_WHILE");
}

static bool is_leaking(void)
{
	return leak_while && access(leak_while, F_OK) == 0;
}

static int get_xsave(int fd, unsigned long request, void *payload)
{
	int result = next_ioctl(fd, request, payload);

	if (result == 0 && is_leaking())
		set_xstate_bv(payload, get_xstate_bv(payload) | leak_bits);
	return result;
}

static int set_xsave(int fd, unsigned long request, void *payload)
{
	const uint64_t xstate_bv = get_xstate_bv(payload);
	int result;

	if (!is_leaking())
		return next_ioctl(fd, request, payload);
	set_xstate_bv(payload, xstate_bv & ~leak_bits);
	result = next_ioctl(fd, request, payload);
	set_xstate_bv(payload, xstate_bv);
	return result;
}

static int get_xcrs(int fd, unsigned long request, struct kvm_xcrs *xcrs)
{
	int result = next_ioctl(fd, request, xcrs);

	if (result == 0 && leak_xcr0 && is_leaking())
		xcrs->xcrs[0].value = leak_xcr0;
	return result;
}

static int on_ioctl(int fd, unsigned long request, void *argument)
{
	switch ((uint32_t)request) {
	case KVM_GET_XSAVE:
	case KVM_GET_XSAVE2:
		return get_xsave(fd, request, argument);
	case KVM_SET_XSAVE:
		return set_xsave(fd, request, argument);
	case KVM_GET_XCRS:
		return get_xcrs(fd, request, argument);
	default:
		return next_ioctl(fd, request, argument);
	}
}
