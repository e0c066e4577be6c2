// SPDX-License-Identifier: MIT
// A library whose constructor restores a vCPU. Its place in the link map decides how early that is.
#include <sys/ioctl.h>

#include "story.h"

__attribute__((constructor)) static void start(void)
{
	story("constructor", ioctl);
}
