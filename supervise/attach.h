// SPDX-License-Identifier: MIT
// Starts a supervisor for the calling process.
#ifndef XSAVESHIM_ATTACH_H
#define XSAVESHIM_ATTACH_H

#include "xsaveshim/settings.h"

// The exit statuses of `xsaveshim run` if `xsaveshim run` could not start the VMM. env(1) and
// timeout(1) use the same numbers. Any other status is the VMM's exit status.
#define EXIT_OWN_FAILURE 125
#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NOT_FOUND 127

// Puts the calling process under a new supervisor. The calling process then executes the VMM. The
// process's children, signals, descriptors and environment stay as they were. The supervisor
// reports the program, and the reason why the supervisor was chosen as the mode. If
// attach_supervisor fails, the program ends with a message. Not thread-safe.
void attach_supervisor(const struct settings *settings, const char *program, const char *reason);

#endif
