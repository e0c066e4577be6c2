// SPDX-License-Identifier: MIT
// Another host's kernel over the real KVM, to be preloaded behind the shim. It makes no system call
// of its own, so that it can be used under a VMM's seccomp filter, and it knows one vCPU.
//
//	KERNEL_LEAKS=MASK	KVM_GET_XSAVE and KVM_GET_XSAVE2 return these bits as well
//	KERNEL_STRICT=1		KVM_SET_XSAVE refuses FP and SSE to a guest whose CPUID does not
//enumerate them, as from 5.17 to 5.19.11 	KERNEL_TAKES_XCRS=1	KVM_SET_XCRS refuses nothing, as of
//a KVM that shows the guest more than the VMM asked for
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include "kvm.h"

static int (*next_ioctl)(int fd, unsigned long request, ...);
static uint64_t guest_xcr0;

__attribute__((constructor)) static void start(void)
{
	*(void **)&next_ioctl = dlsym(RTLD_NEXT, "ioctl");
}

// As KVM looks for it: the first entry of leaf 0xD whose index does not count or is 0.
static uint64_t xcr0_of(const struct kvm_cpuid2 *table)
{
	for (uint32_t i = 0; i < table->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &table->entries[i];

		if (e->function == 0xd &&
		    (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || !e->index))
			return (uint64_t)e->edx << 32 | e->eax;
	}
	return 0;
}

static int set_cpuid2(int fd, unsigned long request, const struct kvm_cpuid2 *table)
{
	int result = next_ioctl(fd, request, table);

	if (!result)
		guest_xcr0 = xcr0_of(table);
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

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;
	int result;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
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
