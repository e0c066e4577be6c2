// SPDX-License-Identifier: MIT
// Pure functions that parse the text of files in /proc/PID. The inspected process can choose parts
// of the text, such as its name, so these parts may have any bytes and any length.
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

// If this line of /proc/PID/maps describes a mapping of a file with this name, sets *mapping,
// writes the file's path (cut to path_size) and returns true.
bool proc_maps_file(const char *line, const char *name, struct proc_mapping *mapping, char *path,
		    size_t path_size);

// Returns true if the text of /proc/PID/stat shows a kernel thread or a process that has exited.
bool proc_stat_holds_no_files(const char *stat);

// A process has a real, an effective, a saved and a file-system user id.
#define PROC_UIDS 4
#define PROC_UID_EFFECTIVE 1

// Reads the user ids from the text of /proc/PID/status. Returns false if the text has no user ids.
bool proc_status_uids(const char *status, uid_t uids[PROC_UIDS]);

// Returns true if the text of /proc/PID/status shows that the process has a seccomp filter.
bool proc_status_is_filtered(const char *status);

// If the text of a file in /proc/PID/fdinfo describes a pidfd, returns the pid of the pidfd's
// process, or -1 if that process has exited. For another kind of descriptor, returns 0.
pid_t proc_fdinfo_pid(const char *fdinfo);

#endif
