// SPDX-License-Identifier: MIT
// A library whose constructor restores a vCPU. The order of the libraries decides when this
// happens.
#include <sys/ioctl.h>

#include "story.h"

__attribute__((constructor)) static void start(void)
{
	story("constructor", ioctl);
}
