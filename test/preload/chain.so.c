// SPDX-License-Identifier: MIT
// An interposer of ioctl() that prints its own file name and the XSTATE_BV of each KVM_SET_XSAVE to
// stderr. The tests preload copies of this library under different file names, in front of
// xsaveshim's library and behind it.
#include "interposer.h"
#include "kvm.h"

static int on_ioctl(int fd, unsigned long request, void *argument)
{
	Dl_info self;

	if ((uint32_t)request == KVM_SET_XSAVE && dladdr(&next_ioctl, &self))
		dprintf(2, "%s: xstate_bv=0x%llx\n", strrchr(self.dli_fname, '/') + 1,
			(unsigned long long)get_xstate_bv(argument));
	return next_ioctl(fd, request, argument);
}
