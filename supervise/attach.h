// SPDX-License-Identifier: MIT
// Starts a supervisor for the calling process.
#ifndef XSAVESHIM_ATTACH_H
#define XSAVESHIM_ATTACH_H

#include "xsaveshim/settings.h"

// The exit status of `run` where it could not start the VMM, as with env(1) and timeout(1). Any
// other status is the VMM's.
#define EXIT_OWN_FAILURE 125
#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NOT_FOUND 127

// Puts the calling process under a new supervisor, so that it can exec the VMM: its children,
// signals, descriptors and environment stay as they were. The supervisor reports program, and
// reason, why it was chosen over the preload. Ends the program with a message where it fails. Not
// thread-safe.
void attach_supervisor(const struct settings *settings, const char *program, const char *reason);

#endif
