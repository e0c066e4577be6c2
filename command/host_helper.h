// SPDX-License-Identifier: MIT
// The helper that the package xsaveshim-host installs and that has the host mode: executes it and
// queries it. Not thread-safe.
#ifndef XSAVESHIM_HOST_HELPER_H
#define XSAVESHIM_HOST_HELPER_H

#include <stdbool.h>

#include "xsaveshim/settings.h"

#define HOST_HELPER "xsaveshim-host"

// Executes the helper in place of this process. Returns only if that fails, with errno set: ENOENT
// if the helper is not installed.
void host_helper_execute(char **argv);

// Queries the state of the host mode. Returns true if it is active, and sets its trim and refused.
// Returns false also if the helper is not installed or the caller is not root.
bool host_helper_query(struct settings *settings);

#endif
