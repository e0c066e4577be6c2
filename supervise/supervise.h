// SPDX-License-Identifier: MIT
// The supervisor is a process that trims the KVM_SET_XSAVE payloads of VMMs, for example of static
// VMMs, which cannot load the library.
//
// The functions are not thread-safe. A function that fails ends the program with a message.
#ifndef XSAVESHIM_SUPERVISE_H
#define XSAVESHIM_SUPERVISE_H

#include <sys/types.h>

#include "xsaveshim/settings.h"

// Opens the log that the settings name. Starts the guardian, a process that acts if the supervisor
// dies (guardian.h). Publishes the record that `xsaveshim status` reads. program, reason: for
// the report event=run, the VMM's program and why `xsaveshim run` chose the supervisor. listener:
// the descriptor at which the kernel's seccomp notifications arrive. socket: the supervisor's
// socket to the VMM's process; the guardian inherits a copy, and closes the copy.
void supervise_prepare(int listener, int socket, const struct settings *settings, pid_t vmm,
		       const char *program, const char *reason);

// Answers the seccomp notifications. Ends the program when the last process with the VMM's seccomp
// filter has exited.
_Noreturn void supervise(void);

#endif
