// SPDX-License-Identifier: MIT
// A library that restores a vCPU from its constructor, as early as its place in the link map has that run.
#include <sys/ioctl.h>

#include "story.h"

__attribute__((constructor)) static void start(void)
{
	story("constructor", ioctl);
}
