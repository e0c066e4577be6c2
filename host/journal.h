// SPDX-License-Identifier: MIT
// Sends entries with fields to systemd's journal.
#ifndef XSAVESHIM_HOST_JOURNAL_H
#define XSAVESHIM_HOST_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "xsaveshim/log.h"

// Returns true if standard output is connected to systemd's journal: see $JOURNAL_STREAM in
// systemd.exec(5).
bool journal_has_stdout(void);

// Sends one line of xsaveshim's log to the journal as an entry with the fields MESSAGE, PRIORITY,
// SYSLOG_IDENTIFIER, XSAVESHIM_EVENT and MESSAGE_ID. If the line has pid= or vm=, the entry also
// has XSAVESHIM_PID or XSAVESHIM_VM. Returns false if the entry could not be sent.
bool journal_send(enum log_level level, const char *line, size_t length);

#endif
