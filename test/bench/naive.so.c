// SPDX-License-Identifier: MIT
// A simple interposer of ioctl(). The benchmark (test/bench/run) measures this library and
// xsaveshim's library, so that a reader can compare the two. Unlike xsaveshim's ioctl(), this
// ioctl() is variadic, and its first call looks up libc's ioctl().
#include <dlfcn.h>
#include <stdarg.h>
#include <stddef.h>

#include <linux/kvm.h>

int ioctl(int fd, unsigned long request, ...);

int ioctl(int fd, unsigned long request, ...)
{
	static int (*real)(int, unsigned long, ...);
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	if (!real)
		real = __extension__(int (*)(int, unsigned long, ...)) dlsym(RTLD_NEXT, "ioctl");
	if (request == KVM_SET_XSAVE && !argument)
		return -1;
	return real(fd, request, argument);
}
