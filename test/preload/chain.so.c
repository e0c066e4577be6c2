// SPDX-License-Identifier: MIT
// Another interposer of ioctl: says on stderr what XSTATE_BV each KVM_SET_XSAVE had when it came
// by, under the name of its own file, so that copies of it can stand on both sides of the shim.
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "kvm.h"

int chain_ioctl(int fd, unsigned long request, ...) __asm__("ioctl");

__attribute__((visibility("default"))) int chain_ioctl(int fd, unsigned long request, ...)
{
	static int (*next)(int fd, unsigned long request, ...);
	va_list args;
	Dl_info self;
	char *arg;

	va_start(args, request);
	arg = va_arg(args, char *);
	va_end(args);
	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "ioctl");
	if ((uint32_t)request == KVM_SET_XSAVE && dladdr(&next, &self))
		dprintf(2, "%s: xstate_bv=0x%llx\n", strrchr(self.dli_fname, '/') + 1,
			(unsigned long long)get_xstate_bv(arg));
	return next(fd, request, arg);
}
