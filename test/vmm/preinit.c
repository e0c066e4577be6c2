// SPDX-License-Identifier: MIT
/* Restores a vCPU before any library's constructor has run, and once more from main. */
#include <sys/ioctl.h>

#include "story.h"

static void before_all_constructors(void)
{
	story("preinit", ioctl);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(void) = before_all_constructors;

int main(void)
{
	story("main", ioctl);
	return 0;
}
