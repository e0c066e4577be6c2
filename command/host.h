// SPDX-License-Identifier: MIT
// The host-wide door, as the other subcommands see it.
#ifndef XSAVESHIM_HOST_H
#define XSAVESHIM_HOST_H

#include <stdbool.h>

#include "xsaveshim/settings.h"

// Whether the host-wide door is in force, as its helper finds by asking KVM. Sets trim and refused to the door's. False also where the helper
// is not installed, and where the caller is not root.
bool host_in_force(struct settings *settings);

#endif
