// SPDX-License-Identifier: MIT
// Executes the helper program xsaveshim-host, which loads the host mode's BPF programs into the
// kernel. Not thread-safe.
#ifndef XSAVESHIM_HOST_HELPER_H
#define XSAVESHIM_HOST_HELPER_H

#include <stdbool.h>

#include <jansson.h>

#include "xsaveshim/settings.h"

#define HOST_HELPER "xsaveshim-host"

// Replaces this process by the helper program. Returns only on failure, with an error number in
// errno. This number is ENOENT if the helper program is not installed.
void host_helper_execute(char **argv);

// Returns the JSON that `xsaveshim host status --json` prints. Returns NULL if this user is not
// root, or if the helper program is not installed.
json_t *host_helper_status(void);

// If the host mode is active, sets `trim` and `refused` in the settings to the host mode's values,
// and returns true. Returns false if the host mode is not active, this user is not root, or the
// helper program is not installed.
bool host_helper_query(struct settings *settings);

#endif
