// SPDX-License-Identifier: MIT
// Starts a supervisor for the calling process.
#ifndef XSAVESHIM_ATTACH_H
#define XSAVESHIM_ATTACH_H

#include "xsaveshim/settings.h"

// Puts the calling process under a new supervisor, so that it can exec the VMM: its children, signals, descriptors and
// environment stay as they were. The supervisor reports program, and reason, why it was chosen over the preload. Ends the program
// with a message where it fails. Not thread-safe.
void attach_supervisor(const struct settings *settings, const char *program, const char *reason);

#endif
