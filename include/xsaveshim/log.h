// SPDX-License-Identifier: MIT
// The log writes reports to its target. If the target fails, the log writes to a fallback.
//
// A log is set up in two steps. log_init notes which file standard error is, because the VMM may
// replace standard error before the log writes its first line. log_open opens the target and the
// fallbacks. Before log_open, the log cannot write.
//
// If the target does not take a line, the log tries standard error, then syslog. If both fail, the
// line is lost.
//
// The VMM may close a descriptor of the log, and another file may then get the descriptor's number.
// So before each write, the log checks that the descriptor's file still has the same device and
// inode number. While the log is open, no other file can get the same inode number. The log writes
// no line into a regular file whose last name was removed. The log also writes no line that would
// make the file exceed the process's RLIMIT_FSIZE, because the kernel would send a signal.
//
// All functions are thread- and async-signal-safe. No function allocates memory or takes a lock. Of
// the system calls, only the supervisor's poll(2) is a cancellation point. log_write leaves errno
// as it was. log_write makes the system calls write(2), sendmsg(2) and the old fstat(2), which the
// seccomp filters of all known VMMs allow.
#ifndef XSAVESHIM_LOG_H
#define XSAVESHIM_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The first value of each enum is the default.
enum log_target { LOG_STDERR, LOG_SYSLOG, LOG_NONE, LOG_PATH };
enum log_level { LOG_LEVEL_NOTICE, LOG_LEVEL_ERROR, LOG_LEVEL_DEBUG };

// The value that stands for a target in the word that log.in_use points to.
#define LOG_IN_USE(target) ((uint32_t)(target) + 1)

// The number of threads that may be in log_open at once. In a further thread, log_open returns
// without opening the log.
#define LOG_OPENERS 64

// A descriptor and the file behind the descriptor. fd is -1 if there is no file.
struct log_file {
	int fd;
	bool is_regular;
	// True if the file had a name at first. The log also writes to a file that never had a
	// name, such as a memfd.
	bool had_name;
	uint64_t device;
	uint64_t inode;
};

struct log_files {
	struct log_file file;	// the target with LOG_PATH
	struct log_file syslog; // a socket for /dev/log
	bool syslog_is_connected;
	bool syslog_is_stream;
	void *pins[2]; // mapped pages of the target and of standard error, or NULL
};

// A key and a value that the log adds to every line.
struct log_field {
	const char *key; // NULL: the end of an array of fields
	const char *value;
};

struct log {
	enum log_target target;
	const char *path; // the target's path with LOG_PATH; the caller keeps the string
	enum log_level level;
	const char *via;		// the value of via= in every line, or NULL
	const struct log_field *fields; // the fields of every line, or NULL

	// True if reports are written before the kernel makes the reported call. A report then does
	// not say how the call ended.
	bool foresees;

	// True if the log calls poll(2) before each write, and drops the line if the write would
	// block. Only the supervisor sets polls, because a VMM's seccomp filter may kill the VMM
	// for poll(2).
	bool polls;

	// If in_use is not NULL, the log stores there where its lines go: LOG_IN_USE of the target
	// or fallback that takes the lines, or LOG_IN_USE(LOG_NONE) if the latest line was lost.
	// The log stores nothing before the log is open.
	_Atomic uint32_t *in_use;

	// If send is not NULL, it gets each line first. The log writes a line itself only if send
	// returns false.
	bool (*send)(enum log_level level, const char *line, size_t length);

	_Atomic int pid; // the value of pid= in every line; 0: lines have no pid=
	uint64_t file_size_limit;
	struct log_file standard_error;
	_Atomic unsigned int claimed; // the number of slots that threads have claimed
	_Atomic unsigned int opened;  // the index of the slot in use plus one; 0: log is not open
	struct log_files slots[LOG_OPENERS];
};

// Initialises a log that is not open yet. log_init makes two system calls: fstat(2) of descriptor
// 2, and getrlimit(2). The log never writes to a standard error that is closed or /dev/null.
void log_init(struct log *log, enum log_target target, const char *path, enum log_level level);

// Initialises a log that writes to a descriptor of the caller. The log is open and has no fallback.
void log_init_fd(struct log *log, int fd, enum log_level level);

// Returns true if the log is open. A log with the target LOG_NONE is always open.
bool log_is_open(const struct log *log);

// Opens the target and the fallbacks. Returns true if this call has opened the log. *error is then
// NULL, or the reason why the target could not be opened. Returns false if the log was already
// open, or if another thread opened the log at the same time.
//
// With LOG_PATH, log_open opens the file for appending. log_open creates a missing file with mode
// 0600, and refuses a file that is a symbolic link or not a regular file. log_open follows symbolic
// links in the directories of the path.
bool log_open(struct log *log, const char **error);

// Closes the log's descriptors and unmaps its pages.
void log_close(struct log *log);

// Returns the name of the first fallback: "stderr", "syslog" or "none".
const char *log_fallback(const struct log *log);

// Returns true if the log writes lines of this level.
bool log_takes(const struct log *log, enum log_level level);

// Writes one line. line: length bytes of text, and space for one more byte, the newline.
void log_write(const struct log *log, enum log_level level, char *line, size_t length);

#endif
