// SPDX-License-Identifier: MIT
// Where reports go: standard error, a file or syslog.
//
// log_open opens what the settings name and belongs in a constructor or in main; all else here is thread- and
// async-signal-safe on a log that is open, allocates nothing and leaves errno as it was.
#ifndef XSAVESHIM_LOG_H
#define XSAVESHIM_LOG_H

#include <stdbool.h>
#include <stddef.h>

// The default first.
enum log_target { LOG_STDERR, LOG_SYSLOG, LOG_NONE, LOG_PATH };
enum log_level { LOG_LEVEL_NOTICE, LOG_LEVEL_ERROR, LOG_LEVEL_DEBUG };

struct log {
	int fd;		 // -1: reports go nowhere
	int fallback_fd; // where a line goes that fd does not take; -1: nowhere
	enum log_level level;
	bool syslog;	 // fd is a socket to /dev/log
	const char *via; // a tag for every line, or NULL
};

// Opens the log. path: with LOG_PATH a file, which is appended to, created with mode 0600, and never opened through a symbolic
// link. Returns 0, or the errno of a target that cannot be opened: standard error is the log then. A process that was started
// without a standard error has none.
int log_open(struct log *log, enum log_target target, const char *path, enum log_level level);

// Whether the log takes lines of this level.
bool log_takes(const struct log *log, enum log_level level);

// Writes one line with a single write(2). line: length bytes and room for one more, the newline.
void log_write(const struct log *log, enum log_level level, char *line, size_t length);

#endif
