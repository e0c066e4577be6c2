// SPDX-License-Identifier: MIT
// Executes the helper that has the host mode (package xsaveshim-host). Not thread-safe.
#ifndef XSAVESHIM_HOST_HELPER_H
#define XSAVESHIM_HOST_HELPER_H

#include <stdbool.h>

#include <jansson.h>

#include "xsaveshim/settings.h"

#define HOST_HELPER "xsaveshim-host"

// Executes the helper in place of this process. Returns only on failure, with ENOENT if the helper
// is missing.
void host_helper_execute(char **argv);

// Returns the JSON of the helper's status, or NULL. The caller must be root, and the helper must be
// installed.
json_t *host_helper_status(void);

// Returns true if the host mode is active, and sets trim and refused to the host mode's values. The
// caller must be root, and the helper must be installed.
bool host_helper_query(struct settings *settings);

#endif
