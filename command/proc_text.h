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

// Returns true if the line of maps is of a file with this name; path gets its path, cut to fit.
bool proc_maps_file(const char *line, const char *name, struct proc_mapping *mapping, char *path,
		    size_t path_size);

// Returns true if stat shows a kernel thread or a process that has exited.
bool proc_stat_holds_no_files(const char *stat);

// The real, the effective, the saved and the file system's user id.
#define PROC_UIDS 4
#define PROC_UID_EFFECTIVE 1

// Reads the user ids from status. Returns false if it has none.
bool proc_status_uids(const char *status, uid_t uids[PROC_UIDS]);

// Returns true if status shows that the process has a seccomp filter.
bool proc_status_is_filtered(const char *status);

// Returns the process that a pidfd's fdinfo names, -1 if it has exited; 0 for any other fdinfo.
pid_t proc_fdinfo_pid(const char *fdinfo);

#endif
