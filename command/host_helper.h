// SPDX-License-Identifier: MIT
// The helper of the package xsaveshim-host, which the host mode is: how to execute it and what it
// says. Not thread-safe.
#ifndef XSAVESHIM_HOST_HELPER_H
#define XSAVESHIM_HOST_HELPER_H

#include <stdbool.h>

#include "xsaveshim/settings.h"

#define HOST_HELPER "xsaveshim-host"

// Executes the helper in this process's place. Returns where that cannot be done, with errno set:
// ENOENT where it is not installed.
void host_helper_execute(char **argv);

// Whether the host mode is active, as its helper finds by asking KVM. Sets trim and refused to the
// host mode's. False also where the helper is not installed, and where the caller is not root.
bool host_is_active(struct settings *settings);

#endif
