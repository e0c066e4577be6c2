// SPDX-License-Identifier: MIT
// A leaky host, to be preloaded into a VMM: while the file named by LEAK_WHILE exists,
// KVM_GET_XSAVE and KVM_GET_XSAVE2 return the bits of LEAK_BITS in XSTATE_BV besides the vCPU's
// own, and KVM_SET_XSAVE takes them back as such a kernel would. (Without that, a bit this host
// lacks would break the source guest too: a VMM writes what it read into the same vCPU when it
// resumes.) With LEAK_XCR0, KVM_GET_XCRS tells meanwhile that the guest has enabled this XCR0.
#include <dlfcn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kvm.h"

static int (*next_ioctl)(int fd, unsigned long request, ...);
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
	*(void **)&next_ioctl = dlsym(RTLD_NEXT, "ioctl");
}

static bool leaking(void)
{
	return leak_while && access(leak_while, F_OK) == 0;
}

static int get_leaky(int fd, unsigned long request, char *payload)
{
	int result = next_ioctl(fd, request, payload);

	if (result == 0)
		set_xstate_bv(payload, get_xstate_bv(payload) | leak_bits);
	return result;
}

static int set_leaky(int fd, unsigned long request, char *payload)
{
	const uint64_t xstate_bv = get_xstate_bv(payload);
	int result;

	set_xstate_bv(payload, xstate_bv & ~leak_bits);
	result = next_ioctl(fd, request, payload);
	set_xstate_bv(payload, xstate_bv);
	return result;
}

static int get_xcrs(int fd, unsigned long request, struct kvm_xcrs *xcrs)
{
	int result = next_ioctl(fd, request, xcrs);

	if (result == 0 && leak_xcr0)
		xcrs->xcrs[0].value = leak_xcr0;
	return result;
}

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);

	// The low 32 bits alone: QEMU up to 8.2 sign-extends its requests.
	switch ((uint32_t)request) {
	case KVM_GET_XSAVE:
	case KVM_GET_XSAVE2:
		return leaking() ? get_leaky(fd, request, argument)
				 : next_ioctl(fd, request, argument);
	case KVM_SET_XSAVE:
		return leaking() ? set_leaky(fd, request, argument)
				 : next_ioctl(fd, request, argument);
	case KVM_GET_XCRS:
		return leaking() ? get_xcrs(fd, request, argument)
				 : next_ioctl(fd, request, argument);
	default:
		return next_ioctl(fd, request, argument);
	}
}
