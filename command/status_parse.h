// SPDX-License-Identifier: MIT
// What /proc says of a process, told from the text alone. The process has a say in that text: any byte and
// any length is to be expected. Pure functions; they read size bytes, or up to the end of a string, and never
// fail.
#ifndef XSAVESHIM_STATUS_PARSE_H
#define XSAVESHIM_STATUS_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

// Writes the name that a VMM's command line (/proc/PID/cmdline) gives its guest: QEMU's -name guest=NAME,...
// or -name NAME. False without one, or with an empty one. A name that is longer than name_size - 1 is cut.
bool parse_guest_name(const char *cmdline, size_t size, char *name, size_t name_size);

// The value of a variable in /proc/PID/environ, or NULL. It ends within size bytes: text that is cut off is
// no value.
const char *parse_environment(const char *environment, size_t size, const char *key);

// Whether a line of /proc/PID/maps is of the shim. Where it is, writes the path of its file, cut to fit,
// and whether that file has been removed, or replaced by another, since.
bool parse_shim_mapping(const char *line, char *path, size_t path_size, bool *replaced);

// Whether /proc/PID/stat tells of a process that cannot hold a file: a kernel thread, or one that has ended.
bool parse_holds_no_files(const char *stat);

// The effective user that /proc/PID/status tells; (uid_t)-1, which nobody is, where it does not.
uid_t parse_uid(const char *status);

// The process that a line of a pidfd's /proc/PID/fdinfo/N tells, -1 once it has ended; 0 for any other line.
pid_t parse_pidfd_line(const char *line);

#endif
