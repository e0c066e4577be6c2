// SPDX-License-Identifier: MIT
// The log writes xsaveshim's reports, one line each, to a target: standard error, syslog or a file.
// If the log cannot write a line to the target, the log tries two fallbacks: standard error, then
// syslog. If both fallbacks fail, the line is lost.
//
// A log is set up in two steps. log_init notes which file standard error is, because the VMM may
// replace standard error before the log writes its first line. log_open opens the target and the
// fallbacks. Without log_open, the log can write only to standard error.
//
// The VMM may close a descriptor of the log, and another file may then get the descriptor's number.
// So before each write, the log checks that the descriptor's file still has the same device and
// inode number. If the file is a regular file, log_open maps a page of the file: as long as the
// page is mapped, no new file can get the same inode number. The log does not write into a deleted
// file. If a line would make a file larger than RLIMIT_FSIZE allows, the log does not write the
// line to this file, because the kernel would send SIGXFSZ.
//
// All functions are thread- and async-signal-safe, except that log_open calls strerror(3) if it
// cannot open the target. No function allocates memory or takes a lock. The log's only cancellation
// point (pthreads(7)) is poll(2). Only the supervisor's log calls poll(2). log_write leaves errno
// as it was. In a VMM, log_write makes only the system calls write(2), sendmsg(2) and fstat(2). The
// seccomp filters of all VMMs that we tested allow these three calls.
#ifndef XSAVESHIM_LOG_H
#define XSAVESHIM_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The first value of log_target is the default of the setting XSAVESHIM_LOG. The first value of
// log_level is the default of the setting XSAVESHIM_LOG_LEVEL.
enum log_target { LOG_STDERR, LOG_SYSLOG, LOG_NONE, LOG_PATH };
enum log_level { LOG_LEVEL_NOTICE, LOG_LEVEL_ERROR, LOG_LEVEL_DEBUG };

// The number that stands for this target in *in_use (see struct log).
#define LOG_IN_USE(target) ((uint32_t)(target) + 1)

// If several threads call log_open at once, at most this number of threads try to open the log. In
// the other threads, log_open returns false.
#define LOG_OPENERS 64

// A descriptor and the file that the descriptor refers to. fd is -1 if there is no file.
struct log_file {
	int fd;
	bool is_regular;
	// True if the file had a name when the log first saw the file. The log writes to a memfd,
	// which never has a name, but not to a file that has lost its name.
	bool had_name;
	uint64_t device;
	uint64_t inode;
};

struct log_files {
	struct log_file file;	// the target file if the target is LOG_PATH
	struct log_file syslog; // a socket for /dev/log
	bool syslog_is_connected;
	bool syslog_is_stream;
	void *pins[2]; // mapped pages of the target file and of standard error; NULL: none
};

// A key and a value that the log adds to every line.
struct log_field {
	const char *key; // NULL marks the end of an array of fields
	const char *value;
};

struct log {
	enum log_target target;
	const char *path; // the path if target is LOG_PATH; the caller keeps the string valid
	enum log_level level;
	const char *via;		// the value of via= in every line, or NULL
	const struct log_field *fields; // further fields of every line, or NULL

	// True if xsaveshim writes each report before the kernel executes the reported call. The
	// report then does not say how the call ended.
	bool foresees;

	// True if the log calls poll(2) before each write, and tries a fallback if the write would
	// block. polls is true only in the supervisor's log. The library's log runs in the VMM, and
	// the VMM's seccomp filter may kill a VMM that calls poll(2).
	bool polls;

	// If in_use is not NULL, the log stores in *in_use where the log's lines go. The value is
	// LOG_IN_USE of the target or fallback that takes the lines, or LOG_IN_USE(LOG_NONE) if the
	// latest line was lost. log_open stores the first value.
	_Atomic uint32_t *in_use;

	// If send is not NULL, the log first passes each line to send. The log writes the line
	// itself only if send returns false.
	bool (*send)(enum log_level level, const char *line, size_t length);

	_Atomic int pid; // the value of pid= in every line; 0: lines have no pid=
	uint64_t file_size_limit;
	struct log_file standard_error;
	_Atomic unsigned int claimed; // how many calls of log_open have asked for a slot
	_Atomic unsigned int opened;  // the log uses slots[opened - 1]; 0: it is not open
	struct log_files slots[LOG_OPENERS];
};

// Initialises a log without opening it. The only system calls of log_init are fstat(2) on
// descriptor 2 and getrlimit(2). If standard error is closed or is /dev/null, the log never writes
// to standard error.
void log_init(struct log *log, enum log_target target, const char *path, enum log_level level);

// Initialises a log that writes to fd. This log is open at once and has no fallback.
void log_init_fd(struct log *log, int fd, enum log_level level);

// Returns true if the log is open. A log with the target LOG_NONE is always open.
bool log_is_open(const struct log *log);

// Opens the target and the fallbacks. Returns true if this call has opened the log. *error is then
// NULL, or says why the target could not be opened. If the target is a file that could not be
// opened, the log writes only to the fallbacks. If the target is syslog and could not be opened,
// log_write tries /dev/log again for each line. Returns false if the log was already open, or if
// another thread opened the log at the same time.
//
// With LOG_PATH, log_open opens the file for appending. log_open creates a missing file with mode
// 0600, and refuses a file that is a symbolic link or not a regular file. log_open follows symbolic
// links in the directories of the path.
bool log_open(struct log *log, const char **error);

void log_close(struct log *log);

// Returns the name of the first fallback that the log can use: "stderr", "syslog" or "none".
const char *log_fallback(const struct log *log);

// Returns true if the log writes lines of this level.
bool log_takes(const struct log *log, enum log_level level);

// Writes one line. line: length bytes of text, and space for one more byte, the newline.
void log_write(const struct log *log, enum log_level level, char *line, size_t length);

#endif
