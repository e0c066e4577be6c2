// SPDX-License-Identifier: MIT
// Pure functions that parse the text of files in /proc/PID. The inspected process chooses parts of
// the text, so these parts may have any bytes and any length.
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

// Returns true if this line of /proc/PID/maps is for a file with this name. Writes the file's path,
// cut to fit.
bool proc_maps_file(const char *line, const char *name, struct proc_mapping *mapping, char *path,
		    size_t path_size);

// Returns true if the text of /proc/PID/stat shows a kernel thread or a process that has exited.
bool proc_stat_holds_no_files(const char *stat);

// The number of user ids: the real, the effective, the saved and the file system's user id.
#define PROC_UIDS 4
#define PROC_UID_EFFECTIVE 1

// Reads the user ids from the text of /proc/PID/status. Returns false if the text has no user ids.
bool proc_status_uids(const char *status, uid_t uids[PROC_UIDS]);

// Returns true if the text of /proc/PID/status shows that the process has a seccomp filter.
bool proc_status_is_filtered(const char *status);

// Returns the pid in the text of a pidfd's file in /proc/PID/fdinfo, or -1 if the process of the
// pidfd has exited. Returns 0 if the descriptor is not a pidfd.
pid_t proc_fdinfo_pid(const char *fdinfo);

#endif
