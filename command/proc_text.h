// SPDX-License-Identifier: MIT
// Parsers for the text of files in /proc/PID. The process chooses part of that text: any bytes and any length can come.
//
// Pure functions: they read size bytes, or to the end of a string, and never fail.
#ifndef XSAVESHIM_PROC_TEXT_H
#define XSAVESHIM_PROC_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

// cmdline: writes the name that a VMM's command line gives its guest: QEMU's -name guest=NAME,... or -name NAME. False where there is
// none, or an empty one. Cuts a name that is longer than name_size - 1.
bool proc_cmdline_guest_name(const char *cmdline, size_t size, char *name, size_t name_size);

// environ: the value of a variable, or NULL. The value ends within size bytes; one that is cut off does not count.
const char *proc_environ_value(const char *environment, size_t size, const char *key);

// maps: whether a line is a mapping of the library. If so, writes the path of the library's file, cut to fit, and whether that file
// has since been removed or replaced.
bool proc_maps_shim(const char *line, char *path, size_t path_size, bool *replaced);

// stat: whether the process cannot hold a file, because it is a kernel thread or has exited.
bool proc_stat_holds_no_files(const char *stat);

// status: the effective user id; (uid_t)-1, which is nobody's, where there is none.
uid_t proc_status_uid(const char *status);

// fdinfo/N: the process that a line of a pidfd's file names, -1 if that process has exited; 0 for any other line.
pid_t proc_fdinfo_pid(const char *line);

#endif
