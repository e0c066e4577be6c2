// SPDX-License-Identifier: MIT
// The supervisor's standard error. The supervisor has inherited standard error from the VMM.
//
// A VMM that becomes a daemon closes its standard error. The supervisor must then close standard
// error, too, because ssh or a script may wait for the end of the stream. The kernel announces no
// close. So a thread of the supervisor checks whether the VMM's process or an owner still has
// standard error. The thread checks soon after each notification, and then at growing intervals. A
// process can hold up only this thread.
//
// All functions except stderr_start are thread-safe.
#ifndef XSAVESHIM_STDERR_H
#define XSAVESHIM_STDERR_H

#include <sys/types.h>

#include "tracked.h"

// Starts the thread that checks. vmm: the process that executes the VMM. If the thread cannot
// start, the program ends with a message.
void stderr_start(struct tracked *tracked, pid_t vmm);

// Makes the thread check soon, because a VMM that makes watched calls may soon become a daemon.
void stderr_check_soon(void);

// Makes the thread check now, and waits at most a second for the check. The check closes a standard
// error that neither the VMM's process nor an owner has. Only one thread at a time may call
// stderr_check_now.
void stderr_check_now(void);

// If standard error is a full pipe, waits at most a second for a reader to read from the pipe. Only
// one thread at a time may call stderr_wait_writable.
void stderr_wait_writable(void);

#endif
