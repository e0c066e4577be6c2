// SPDX-License-Identifier: MIT
// Makes a host look leaky to the VMM that preloads this library: KVM_GET_XSAVE returns xfeatures
// that the guest lacks. The library changes KVM's answers as long as the file $LEAK_WHILE exists.
//
//	LEAK_BITS=MASK	KVM_GET_XSAVE and KVM_GET_XSAVE2 also set these bits of XSTATE_BV.
//			KVM_SET_XSAVE ignores these bits, so that the VMM can resume the guest from
//			a saved payload
//	LEAK_XCR0=XCR0	KVM_GET_XCRS returns this XCR0
//	LEAK_MXCSR=MASK	KVM_GET_XSAVE and KVM_GET_XSAVE2 also set these bits of MXCSR, as in a
//			damaged snapshot. KVM_SET_XSAVE clears these bits
#include <stdbool.h>

#include "interposer.h"
#include "kvm.h"

#define MXCSR_OFFSET 24

static const char *leak_while;
static uint64_t leak_bits;
static uint64_t leak_xcr0;
static uint32_t leak_mxcsr;

__attribute__((constructor)) static void start(void)
{
	const char *bits = getenv("LEAK_BITS");
	const char *xcr0 = getenv("LEAK_XCR0");
	const char *mxcsr = getenv("LEAK_MXCSR");

	leak_bits = bits ? strtoull(bits, NULL, 0) : 0;
	leak_xcr0 = xcr0 ? strtoull(xcr0, NULL, 0) : 0;
	leak_mxcsr = mxcsr ? (uint32_t)strtoul(mxcsr, NULL, 0) : 0;
	leak_while = getenv("LEAK_WHILE");
}

static bool is_leaking(void)
{
	return leak_while && access(leak_while, F_OK) == 0;
}

static void leak(void *payload, bool set)
{
	uint64_t bv = get_xstate_bv(payload);
	uint32_t mxcsr;

	memcpy(&mxcsr, (char *)payload + MXCSR_OFFSET, sizeof(mxcsr));
	mxcsr = set ? mxcsr | leak_mxcsr : mxcsr & ~leak_mxcsr;
	memcpy((char *)payload + MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
	set_xstate_bv(payload, set ? bv | leak_bits : bv & ~leak_bits);
}

static int get_xsave(int fd, unsigned long request, void *payload)
{
	int result = next_ioctl(fd, request, payload);

	if (result == 0 && is_leaking())
		leak(payload, true);
	return result;
}

static int set_xsave(int fd, unsigned long request, void *payload)
{
	const uint64_t xstate_bv = get_xstate_bv(payload);
	int result;

	if (!is_leaking())
		return next_ioctl(fd, request, payload);
	leak(payload, false);
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
