// SPDX-License-Identifier: MIT
// Entries with fields in systemd's journal.
#ifndef XSAVESHIM_HOST_JOURNAL_H
#define XSAVESHIM_HOST_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "xsaveshim/log.h"

// Returns true if standard output leads to systemd's journal ($JOURNAL_STREAM, systemd.exec(5)).
bool journal_has_stdout(void);

// Sends one line of a log to the journal as an entry with fields: MESSAGE, PRIORITY,
// SYSLOG_IDENTIFIER, XSAVESHIM_EVENT, MESSAGE_ID, and XSAVESHIM_PID and XSAVESHIM_VM if the line
// has pid= and vm=. Returns false if the journal did not take the entry.
bool journal_send(enum log_level level, const char *line, size_t length);

#endif
