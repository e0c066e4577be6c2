// SPDX-License-Identifier: MIT
// The threads of the supervisor that answer the kernel's seccomp notifications. The notifications
// arrive at a descriptor, the listener.
#ifndef XSAVESHIM_LISTENER_H
#define XSAVESHIM_LISTENER_H

#include "tracked.h"

// Answers the notifications. Ends the program when the last process with the seccomp filter that
// notifies the listener has exited. Ends the program with a message if the listener fails.
_Noreturn void listener_serve(int listener, struct tracked *tracked);

#endif
