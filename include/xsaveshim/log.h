// SPDX-License-Identifier: MIT
// The log: the place that reports are written to, and the places that they fall back to.
//
// A log is set up in two steps. log_init notes which file standard error is, because the VMM may
// replace it before the first line. log_open opens the target and the fallbacks. Until then nothing
// can be written.
//
// If the target does not take a line, the line goes to standard error, then to syslog; if neither
// takes it, it is lost. A line never goes into a file that has taken over a descriptor's number:
// before each write the descriptor must still have the device and inode that it had. While the log
// is open, no other file gets this inode number. A regular file takes no line after its last name
// was removed, nor one that would exceed the process's RLIMIT_FSIZE, which raises a signal.
//
// Thread- and async-signal-safe. Nothing here allocates or takes a lock, none of the system calls is
// a cancellation point, and only log_open changes errno. log_write makes the system calls write(2),
// sendmsg(2) and the old fstat(2), which the seccomp filters of all known VMMs allow.
#ifndef XSAVESHIM_LOG_H
#define XSAVESHIM_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The first value of each is the default.
enum log_target { LOG_STDERR, LOG_SYSLOG, LOG_NONE, LOG_PATH };
enum log_level { LOG_LEVEL_NOTICE, LOG_LEVEL_ERROR, LOG_LEVEL_DEBUG };

// A target as struct log notes it.
#define LOG_IN_USE(target) ((uint32_t)(target) + 1)

// The number of threads that may be in log_open at once. Any further one returns without opening.
#define LOG_OPENERS 64

// A descriptor and its file. fd is -1 if there is no file.
struct log_file {
	int fd;
	bool is_regular;
	bool had_name; // when it was opened: a memfd has none, and stays as good as it was
	uint64_t device;
	uint64_t inode;
};

struct log_files {
	struct log_file file;	// with LOG_PATH
	struct log_file syslog; // a socket
	bool syslog_is_connected;
	bool syslog_is_stream;
	void *pins[2]; // pages of the file and of standard error, or NULL
};

// A key and a value that are in every line.
struct log_field {
	const char *key; // NULL: the end of an array of fields
	const char *value;
};

struct log {
	enum log_target target;
	const char *path; // with LOG_PATH; the caller's string
	enum log_level level;
	const char *via;		// the value of via= in every line, or NULL
	const struct log_field *fields; // in every line, or NULL

	bool foresees; // reports come before the call: no line says how the call ended

	// Calls poll(2) before each write, and drops the line if the write would block. A VMM's
	// filter may kill it for poll(2), so only the supervisor sets this.
	bool polls;

	// Where lines go: to the target or a fallback, as the latest line did; LOG_NONE if it was
	// lost. 0: the log is not open. NULL: nobody asks.
	_Atomic uint32_t *in_use;

	_Atomic int pid; // the value of pid= in every line; 0: none
	uint64_t file_size_limit;
	struct log_file standard_error;
	_Atomic unsigned int claimed; // the number of slots that were given to a thread
	_Atomic unsigned int opened;  // the slot in use plus one; 0: the log is not open
	struct log_files slots[LOG_OPENERS];
};

// Makes a log that is not open yet. Its system calls are fstat(2) of descriptor 2 and getrlimit(2). A
// process whose standard error is closed or /dev/null has no standard error to write to.
void log_init(struct log *log, enum log_target target, const char *path, enum log_level level);

// Makes a log of a descriptor that the caller has opened. It is open, and has no fallback.
void log_init_fd(struct log *log, int fd, enum log_level level);

// Returns true if the log is open. A LOG_NONE always is.
bool log_is_open(const struct log *log);

// Opens the target and the fallbacks. Returns true if this call has opened the log, and then sets
// *error to NULL, or to the reason why the target could not be opened. Returns false if the log was
// open, or if another thread opened it at the same time. A file is appended to, created with mode
// 0600, and refused if it is a symbolic link or not a regular file. Symbolic links in the middle of
// its path are followed.
bool log_open(struct log *log, const char **error);

// Releases the descriptors and pages of log_open.
void log_close(struct log *log);

// Returns the name of the first fallback: "stderr", "syslog" or "none".
const char *log_fallback(const struct log *log);

// Returns true if the log takes lines of this level.
bool log_takes(const struct log *log, enum log_level level);

// Writes one line. line: length bytes, and space for one more byte, the newline.
void log_write(const struct log *log, enum log_level level, char *line, size_t length);

#endif
