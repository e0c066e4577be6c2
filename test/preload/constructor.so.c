// SPDX-License-Identifier: MIT
// A library whose constructor creates a vCPU and calls KVM_SET_XSAVE on this vCPU. The order of the
// preloaded libraries decides whether xsaveshim's constructor runs before this constructor.
#include <sys/ioctl.h>

#include "story.h"

__attribute__((constructor)) static void start(void)
{
	story("constructor", ioctl);
}
