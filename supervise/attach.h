// SPDX-License-Identifier: MIT
// Starts a supervisor for the calling process.
#ifndef XSAVESHIM_ATTACH_H
#define XSAVESHIM_ATTACH_H

#include "xsaveshim/settings.h"

// The exit status of `run` if it could not start the VMM, as with env(1) and timeout(1).
#define EXIT_OWN_FAILURE 125
#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NOT_FOUND 127

// Puts the calling process, which will exec the VMM, under a new supervisor. Its children, signals,
// descriptors and environment stay as they were. The supervisor reports program and the reason for
// which it was chosen. Ends the program with a message if it fails. Not thread-safe.
void attach_supervisor(const struct settings *settings, const char *program, const char *reason);

#endif
