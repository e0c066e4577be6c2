// SPDX-License-Identifier: MIT
// The supervisor: does the shim's work from outside, for VMMs that make their system calls without libc.
//
// Not thread-safe. Every function ends the program, with a message, where it cannot do its work.
#ifndef XSAVESHIM_SUPERVISE_H
#define XSAVESHIM_SUPERVISE_H

#include <seccomp.h>
#include <sys/types.h>

#include "xsaveshim/settings.h"

// Starts a supervisor for the calling process, which is then ready to be exec'ed into the VMM: its children,
// signals, descriptors and environment are as before. program and reason, why it is this and not the preload,
// are for the report.
void attach_supervisor(const struct settings *settings, const char *program, const char *reason);

// The filter that tells of the calls that matter and lets everything else pass. To be released by the caller.
scmp_filter_ctx supervise_filter(void);

// Opens what the settings name, and reports what is supervised, and why. listener: what a process with the
// filter is heard on.
void supervise_prepare(int listener, const struct settings *settings, pid_t vmm, const char *program,
		       const char *reason);

// Answers until the last process with the filter has gone.
void supervise(void);

#endif
