// SPDX-License-Identifier: MIT
// Where reports go: standard error, a file or syslog, and what takes a line that none of these can.
//
// log_init and log_open belong together: log_init notes what standard error is now, which it may no
// longer be when the first line is written; log_open opens the rest, later. Between the two nothing
// can be written.
//
// A line never goes into a file that has taken over a descriptor's number: before each write the
// descriptor must still be the device and inode that it was. If the target does not take a line,
// the line goes to standard error; if that does not take it, to syslog; else it is lost.
//
// Thread- and async-signal-safe. Nothing here allocates or takes a lock, and errno stays as it was,
// but for log_open. The system calls of log_write are write(2), sendmsg(2) and the old fstat(2),
// which every VMM's seccomp filter known to us allows.
#ifndef XSAVESHIM_LOG_H
#define XSAVESHIM_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The default first.
enum log_target { LOG_STDERR, LOG_SYSLOG, LOG_NONE, LOG_PATH };
enum log_level { LOG_LEVEL_NOTICE, LOG_LEVEL_ERROR, LOG_LEVEL_DEBUG };

// How many threads may be in log_open at once, each with descriptors of its own. One more goes away
// without opening anything.
#define LOG_OPENERS 64

// A descriptor, and the file that it stands for. No file: fd is -1.
struct log_file {
	int fd;
	uint64_t device;
	uint64_t inode;
};

struct log_files {
	struct log_file file;	// with LOG_PATH
	struct log_file syslog; // a socket, connected to /dev/log
};

// What else a line says.
struct log_field {
	const char *key; // NULL: the end of an array of them
	const char *value;
};

struct log {
	enum log_target target;
	const char *path; // with LOG_PATH; the caller's string
	enum log_level level;
	const char *via;		// a tag for every line, or NULL
	const struct log_field *fields; // more of every line, or NULL
	bool foresees; // reports come before the call: no line says how it ended
	bool polls; // asks poll(2), which a VMM's filter may kill for, so that no write blocks:
		    // what would block is not written
	_Atomic int pid; // the process that lines are about; 0: lines do not say
	struct log_file standard_error;
	_Atomic unsigned int claimed; // slots
	_Atomic unsigned int opened;  // 0: no slot is; else the number of the slot whose files are
				      // in use, plus one
	struct log_files slots[LOG_OPENERS];
};

// Makes a log that is not open yet. Its one system call is an fstat(2) of descriptor 2. A process
// that was started without a standard error, or with /dev/null for it, has none.
void log_init(struct log *log, enum log_target target, const char *path, enum log_level level);

// Makes a log of a descriptor that the caller has opened. It needs no log_open and has no fallback.
void log_init_fd(struct log *log, int fd, enum log_level level);

// Whether log_open has come to its end in some thread. A LOG_NONE is always open.
bool log_is_open(const struct log *log);

// Opens the target and the fallbacks, once: returns -1 where the log is open already, or where
// another thread was faster; 0; or the errno of a target that cannot be opened. A file is appended
// to, created with mode 0600, and never opened through a symbolic link.
int log_open(struct log *log);

// Closes what log_open has opened.
void log_close(struct log *log);

// What lines go to that the target does not take: "stderr", "syslog" or "none".
const char *log_fallback(const struct log *log);

// Whether the log takes lines of this level.
bool log_takes(const struct log *log, enum log_level level);

// Writes one line, in one system call to each descriptor that is tried. line: length bytes and room
// for one more, the newline.
void log_write(const struct log *log, enum log_level level, char *line, size_t length);

#endif
