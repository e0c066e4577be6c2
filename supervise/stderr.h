// SPDX-License-Identifier: MIT
// The supervisor's standard error, which is the VMM's.
//
// A VMM that becomes a daemon closes its standard error, and so must the supervisor: somebody (ssh,
// a script) may wait for its end. The kernel announces no close, so a thread checks whether an
// owner, or the process that was started, still has it: soon after each notification, and then at
// growing intervals. A process can make that thread wait, and then nobody else waits.
//
// Thread-safe.
#ifndef XSAVESHIM_STDERR_H
#define XSAVESHIM_STDERR_H

#include <sys/types.h>

#include "tracked.h"

// Starts the thread. vmm: the process that was started. Ends the program with a message if there
// can be no thread.
void stderr_start(struct tracked *tracked, pid_t vmm);

// Makes the next check come soon: a VMM that makes watched calls may be about to become a daemon.
void stderr_check_soon(void);

// To be called before a report, by one thread at a time: checks, and so releases a standard error
// that nobody has any more. Waits at most a second for the check.
void stderr_check_now(void);

// Waits at most a second for somebody to read, if standard error is a full pipe. By one thread at a
// time.
void stderr_wait_writable(void);

#endif
