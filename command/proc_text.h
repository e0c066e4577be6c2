// SPDX-License-Identifier: MIT
// Parsers for the text of files in /proc/PID. The process chooses parts of that text, so they may
// have any bytes and any length. Pure functions.
#ifndef XSAVESHIM_PROC_TEXT_H
#define XSAVESHIM_PROC_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct proc_mapping {
	uint64_t start;
	uint64_t end;
	bool writable;
	bool deleted; // the file has been removed or replaced
};

// Parses a line of maps. If it is a mapping of a file with this name, returns true, fills in the
// mapping, and copies the file's path, cut to fit.
bool proc_maps_file(const char *line, const char *name, struct proc_mapping *mapping, char *path,
		    size_t path_size);

// Returns true if stat shows that the process cannot hold a file: it is a kernel thread or has
// exited.
bool proc_stat_holds_no_files(const char *stat);

// The real, the effective, the saved and the file system's user id.
#define PROC_UIDS 4
#define PROC_UID_EFFECTIVE 1

// Reads the user ids from status. Returns false if it has none.
bool proc_status_uids(const char *status, uid_t uids[PROC_UIDS]);

// Returns true if status shows that the process has a seccomp filter.
bool proc_status_is_filtered(const char *status);

// Returns the process that the fdinfo of a pidfd names, or -1 if that process has exited. For any
// other fdinfo returns 0.
pid_t proc_fdinfo_pid(const char *fdinfo);

#endif
