// SPDX-License-Identifier: MIT
// Shows what went between a VMM and KVM: a line in the file named by OBSERVE_LOG for each
// KVM_SET_XSAVE, KVM_GET_XSAVE and KVM_GET_XSAVE2, with the payload's XSTATE_BV and the answer.
// Preloaded behind the shim it sees what KVM was given; in front of it, what the VMM gave.
//
//     KVM_SET_XSAVE fd=14 xstate_bv=0x202 EINVAL
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kvm.h"

static int (*next_ioctl)(int fd, unsigned long request, ...);
static int log_fd = -1;

__attribute__((constructor)) static void start(void)
{
	const char *path = getenv("OBSERVE_LOG");

	if (path)
		log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	*(void **)&next_ioctl = dlsym(RTLD_NEXT, "ioctl");
}

static int observe(const char *name, int fd, unsigned long request, const char *payload)
{
	int result = next_ioctl(fd, request, payload);
	const int error = errno;

	dprintf(log_fd, "%s fd=%d xstate_bv=%#llx %s\n", name, fd,
		(unsigned long long)get_xstate_bv(payload),
		result < 0 ? strerrorname_np(error) : "ok");
	errno = error;
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
		return observe("KVM_GET_XSAVE", fd, request, argument);
	case KVM_GET_XSAVE2:
		return observe("KVM_GET_XSAVE2", fd, request, argument);
	case KVM_SET_XSAVE:
		return observe("KVM_SET_XSAVE", fd, request, argument);
	default:
		return next_ioctl(fd, request, argument);
	}
}
