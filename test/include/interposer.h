// SPDX-License-Identifier: MIT
// A library that includes this file exports an ioctl(), which calls the on_ioctl() that the library
// defines.
#ifndef TEST_INTERPOSER_H
#define TEST_INTERPOSER_H

#include <dlfcn.h>
#include <stdarg.h>

static int (*next_ioctl)(int fd, unsigned long request, ...);

// The upper 32 bits of `request` may be set, because QEMU up to 8.2 sign-extends its requests.
static int on_ioctl(int fd, unsigned long request, void *argument);

__attribute__((constructor)) static void find_next_ioctl(void)
{
	if (!next_ioctl)
		*(void **)&next_ioctl = dlsym(RTLD_NEXT, "ioctl");
}

// The C name of this function is not "ioctl", because glibc's and musl's <sys/ioctl.h> declare
// ioctl() with different types.
int interposed_ioctl(int fd, unsigned long request, ...) __asm__("ioctl");

__attribute__((visibility("default"))) int interposed_ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	// Another library's constructor may call ioctl() before this library's constructor has run.
	find_next_ioctl();
	return on_ioctl(fd, request, argument);
}

#endif
