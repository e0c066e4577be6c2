// SPDX-License-Identifier: MIT
// The supervisor: trims from another process, for VMMs that call the kernel without libc.
//
// Not thread-safe. Every function ends the program with a message if it fails.
#ifndef XSAVESHIM_SUPERVISE_H
#define XSAVESHIM_SUPERVISE_H

#include <seccomp.h>
#include <sys/types.h>

#include "xsaveshim/settings.h"

// Returns a filter that notifies of the watched ioctls. The caller releases it.
scmp_filter_ctx supervise_filter(void);

// Opens the log, reports which program is supervised and why, and takes over the filter's listener.
void supervise_prepare(int listener, const struct settings *settings, pid_t vmm,
		       const char *program, const char *reason);

// Answers the notifications; ends the program when the last process with the filter has exited.
_Noreturn void supervise(void);

#endif
