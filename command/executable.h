// SPDX-License-Identifier: MIT
// Finds the file that execvp would start, and finds out how the file is linked. Not
// async-signal-safe.
#ifndef XSAVESHIM_EXECUTABLE_H
#define XSAVESHIM_EXECUTABLE_H

#include <limits.h>

enum executable_kind {
	EXECUTABLE_DYNAMIC,	  // an x86-64 program with a loader, which reads LD_PRELOAD
	EXECUTABLE_SCRIPT,	  // a file that begins with #!
	EXECUTABLE_STATIC,	  // an x86-64 program without a loader
	EXECUTABLE_OTHER_MACHINE, // an ELF file that is not for x86-64
	EXECUTABLE_UNKNOWN,	  // neither an ELF file nor a script
};

struct executable {
	char path[PATH_MAX];   // the program's path, for execv
	char loader[PATH_MAX]; // the loader's path, for EXECUTABLE_DYNAMIC only
	enum executable_kind kind;
};

// Finds the file of a command as execvp does. Returns 0 on success, and ENOENT if there is no such
// command. Returns another errno if the file cannot be executed or read.
int executable_find(struct executable *executable, const char *name);

// If the program gains privileges when it starts, its loader ignores LD_PRELOAD (ld.so(8),
// secure-execution mode). In that case the function returns "is setuid", "is setgid" or "has file
// capabilities", and otherwise NULL.
const char *executable_gains(const struct executable *executable);

#endif
