// SPDX-License-Identifier: MIT
// Executes the helper program that implements the host mode (package xsaveshim-host). Not
// thread-safe.
#ifndef XSAVESHIM_HOST_HELPER_H
#define XSAVESHIM_HOST_HELPER_H

#include <stdbool.h>

#include <jansson.h>

#include "xsaveshim/settings.h"

#define HOST_HELPER "xsaveshim-host"

// Replaces this process by the helper program, as exec does. Returns only on failure, with errno
// set to ENOENT if the helper is missing.
void host_helper_execute(char **argv);

// Returns the JSON that `xsaveshim host status --json` prints. Returns NULL if the caller is not
// root, or if the helper program is not installed.
json_t *host_helper_status(void);

// Returns true if the host mode is active, and sets `trim` and `refused` in the settings to the
// host mode's values. Returns false if the caller is not root, or if the helper program is not
// installed.
bool host_helper_query(struct settings *settings);

#endif
