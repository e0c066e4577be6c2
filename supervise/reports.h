// SPDX-License-Identifier: MIT
// The supervisor's log. The supervisor writes one report at a time. If the file system of the log
// file hangs, only VMMs whose ioctls cause a report have to wait.
//
// All functions except reports_open are thread-safe.
#ifndef XSAVESHIM_REPORTS_H
#define XSAVESHIM_REPORTS_H

#include <stdbool.h>
#include <sys/types.h>

#include "xsaveshim/log.h"
#include "xsaveshim/settings.h"

// Opens the log that the settings name, and reports the settings' problems. vmm: the VMM's pid, the
// value of pid= in these reports. in_use: the log stores in *in_use where its lines go, for
// example to syslog (log.h). Returns true if the log may write to standard error.
bool reports_open(const struct settings *settings, pid_t vmm, _Atomic uint32_t *in_use);

bool reports_take(enum log_level level);

// Returns the log for reports about the process with this pid. No other thread can write a report
// until this thread calls reports_end. Never call reports_begin while you hold a lock.
struct log *reports_begin(pid_t process);

void reports_end(void);

#endif
