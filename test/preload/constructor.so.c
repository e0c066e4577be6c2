// SPDX-License-Identifier: MIT
// A library whose constructor restores a vCPU. The order of the link map determines when that is.
#include <sys/ioctl.h>

#include "story.h"

__attribute__((constructor)) static void start(void)
{
	story("constructor", ioctl);
}
