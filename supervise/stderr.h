// SPDX-License-Identifier: MIT
// The supervisor's standard error, which is the VMM's.
//
// A VMM that becomes a daemon closes it, and so must the supervisor: somebody (ssh, a script) may
// wait for its end. The kernel announces no close, so the supervisor checks whether a VMM, or the
// process that was started, still has it: soon after each notification, then at growing intervals.
//
// Not thread-safe: call these functions with the supervisor's lock.
#ifndef XSAVESHIM_STDERR_H
#define XSAVESHIM_STDERR_H

#include <stdbool.h>
#include <sys/types.h>

#include "tracked.h"

// vmm: the process that was started. is_open: it has a standard error.
void stderr_init(const struct tracked *tracked, pid_t vmm, bool is_open);

// Closes a standard error that no VMM has any more. The second does so only if a check is due.
void stderr_check_now(void);
void stderr_check_if_due(void);

// Makes the next check come soon: a VMM that makes watched calls may be about to become a daemon.
void stderr_check_soon(void);

// Returns the milliseconds to the next check, or -1 if there will be none.
int stderr_time_to_check(void);

// Waits at most a second for somebody to read, if standard error is a full pipe.
void stderr_wait_writable(void);

#endif
