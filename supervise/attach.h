// SPDX-License-Identifier: MIT
// Starts a supervisor for a process that then executes a VMM.
#ifndef XSAVESHIM_ATTACH_H
#define XSAVESHIM_ATTACH_H

#include "xsaveshim/settings.h"

// The exit statuses of an `xsaveshim run` that could not start the VMM. env(1) and timeout(1) use
// the same numbers. Any other status is the VMM's exit status.
#define EXIT_OWN_FAILURE 125
#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NOT_FOUND 127

// Puts the calling process, which must then execute the VMM, under a new supervisor. Does not
// change the process's children, signals, descriptors or environment. program: the VMM's program.
// reason: why `xsaveshim run` chose a supervisor. The supervisor writes both into its report
// event=run. If attach_supervisor fails, the calling program ends with a message. Not thread-safe.
void attach_supervisor(const struct settings *settings, const char *program, const char *reason);

#endif
