// SPDX-License-Identifier: MIT
// A library whose constructor restores a vCPU. The order of the preloaded libraries decides whether
// xsaveshim's constructor has run by that time.
#include <sys/ioctl.h>

#include "story.h"

__attribute__((constructor)) static void start(void)
{
	story("constructor", ioctl);
}
