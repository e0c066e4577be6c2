// SPDX-License-Identifier: MIT
// Calls KVM_SET_XSAVE on a vCPU before any library's constructor has run, and on another vCPU in
// main().
#include <sys/ioctl.h>

#include "story.h"

// Reads the environment variable DEVICE from the parameter `environment`, because getenv() does not
// work before libc has set up the environment.
static void before_all_constructors(int argc, char **argv, char **environment)
{
	const char *device = NULL;

	(void)argc;
	(void)argv;
	for (; *environment; environment++)
		if (!strncmp(*environment, "DEVICE=", 7))
			device = *environment + 7;
	story_of(device, "preinit", ioctl);
}

__attribute__((section(".preinit_array"),
	       used)) static void (*const preinit)(int, char **, char **) = before_all_constructors;

int main(void)
{
	story("main", ioctl);
	return 0;
}
