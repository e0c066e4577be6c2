// SPDX-License-Identifier: MIT
// The supervisor: trims from another process, for VMMs that no library can serve.
//
// Not thread-safe. Both functions end the program with a message if they fail.
#ifndef XSAVESHIM_SUPERVISE_H
#define XSAVESHIM_SUPERVISE_H

#include <sys/types.h>

#include "xsaveshim/settings.h"

// Opens the log that the settings name, reports which program is supervised and for what reason,
// starts the guardian, and publishes the record that `xsaveshim status` reads. The kernel's notifications of the calls arrive on listener; socket leads
// to the VMM.
void supervise_prepare(int listener, int socket, const struct settings *settings, pid_t vmm,
		       const char *program, const char *reason);

// Answers the notifications; ends the program when the last process with the filter has exited.
_Noreturn void supervise(void);

#endif
