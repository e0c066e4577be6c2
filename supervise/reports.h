// SPDX-License-Identifier: MIT
// The supervisor's log. One report is written at a time: if the log's file system hangs, it holds
// up the VMMs that have something to report, and no other.
//
// Thread-safe.
#ifndef XSAVESHIM_REPORTS_H
#define XSAVESHIM_REPORTS_H

#include <stdbool.h>
#include <sys/types.h>

#include "xsaveshim/log.h"
#include "xsaveshim/settings.h"

// Opens the log that the settings name, and reports the settings' problems. in_use is the log's.
// Returns true if lines may go to standard error.
bool reports_open(const struct settings *settings, pid_t vmm, _Atomic uint32_t *in_use);

// Returns true if the log takes lines of this level.
bool reports_take(enum log_level level);

// Returns the log for the reports about a process. No other thread reports until reports_end. Never
// call this while you hold a lock.
struct log *reports_begin(pid_t process);

void reports_end(void);

#endif
