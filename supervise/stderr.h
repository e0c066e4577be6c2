// SPDX-License-Identifier: MIT
// The supervisor's standard error. The supervisor inherits this file from the VMM's process.
//
// If the VMM becomes a daemon, it closes its standard error. The supervisor must then close its own
// standard error, too, because ssh or a script may wait until every process has closed the file.
// The kernel does not tell the supervisor when the VMM closes a descriptor. So a thread of the
// supervisor checks whether the VMM's process or an owner (a process that has created a vCPU) still
// has the file open as its standard error. The thread checks soon after each seccomp notification,
// and then at growing intervals. If a process makes the check block, only the checking thread
// waits for the process. A report waits at most a second for the check.
//
// Any thread may call stderr_check_soon at any time. Only one thread at a time may call the other
// functions.
#ifndef XSAVESHIM_STDERR_H
#define XSAVESHIM_STDERR_H

#include <sys/types.h>

#include "tracked.h"

// Starts the thread that checks standard error. vmm: the pid of the process that executes the VMM.
// The thread calls closed after it has closed standard error. If the thread cannot start, the
// program ends with a message.
void stderr_start(struct tracked *tracked, pid_t vmm, void (*closed)(void));

// Makes the thread check standard error soon. Call stderr_check_soon after each seccomp
// notification, because a VMM that creates or restores vCPUs may soon become a daemon.
void stderr_check_soon(void);

// Makes the thread check standard error now, and waits at most a second for the end of the check.
// The check closes the supervisor's standard error if at least one process has created a vCPU, and
// if this file is no longer the standard error of any of these processes or of the VMM's process.
void stderr_check_now(void);

// If standard error is a full pipe, waits at most a second until a reader has read from the pipe.
void stderr_wait_writable(void);

#endif
