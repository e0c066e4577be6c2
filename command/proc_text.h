// SPDX-License-Identifier: MIT
// Parsers for the text of files in /proc/PID. The process chooses part of that text: any bytes and
// any length can come.
//
// Pure functions: they read size bytes, or to the end of a string, and never fail.
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
	bool deleted; // its file has since been removed or replaced
};

// maps: whether a line is a mapping of a file with this name. If so, fills in the mapping and
// writes the file's path, cut to fit.
bool proc_maps_file(const char *line, const char *name, struct proc_mapping *mapping, char *path,
		    size_t path_size);

// stat: whether the process cannot hold a file, because it is a kernel thread or has exited.
bool proc_stat_holds_no_files(const char *stat);

// The real, the effective, the saved and the file system's user id.
#define PROC_UIDS 4
#define PROC_UID_EFFECTIVE 1

// status: reads the user ids. False where there are none.
bool proc_status_uids(const char *status, uid_t uids[PROC_UIDS]);

// status: whether the process has a seccomp filter.
bool proc_status_is_filtered(const char *status);

// fdinfo/N: the process that a line of a pidfd's file names, -1 if that process has exited; 0 for
// any other line.
pid_t proc_fdinfo_pid(const char *line);

#endif
