// SPDX-License-Identifier: MIT
// The listener: where the kernel's notifications arrive, and the threads that answer them.
#ifndef XSAVESHIM_LISTENER_H
#define XSAVESHIM_LISTENER_H

#include "tracked.h"

// Answers the notifications, and ends the program when the last process with the filter has
// exited. Ends it with a message if the listener fails.
_Noreturn void listener_serve(int listener, struct tracked *tracked);

#endif
