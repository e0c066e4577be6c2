// SPDX-License-Identifier: MIT
// For each KVM_SET_XSAVE, KVM_GET_XSAVE and KVM_GET_XSAVE2, appends a line to the file
// $OBSERVE_LOG. The line has the XSTATE_BV of the payload (the XSAVE buffer) after the call, and
// the result. If LD_PRELOAD lists this library behind xsaveshim's library, the lines show the
// payloads that KVM gets.
//
//     KVM_SET_XSAVE fd=14 xstate_bv=0x202 EINVAL
#include "interposer.h"
#include "kvm.h"

static int log_fd = -1;

__attribute__((constructor)) static void open_log(void)
{
	const char *path = getenv("OBSERVE_LOG");

	if (path)
		log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int observe(const char *name, int fd, unsigned long request, const void *payload)
{
	int result = next_ioctl(fd, request, payload);
	const int error = errno;

	dprintf(log_fd, "%s fd=%d xstate_bv=%#llx %s\n", name, fd,
		(unsigned long long)get_xstate_bv(payload),
		result < 0 ? strerrorname_np(error) : "ok");
	errno = error;
	return result;
}

static int on_ioctl(int fd, unsigned long request, void *argument)
{
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
