// SPDX-License-Identifier: MIT
// Finds the file that execv would start, and how the file is linked. Not async-signal-safe.
#ifndef XSAVESHIM_EXECUTABLE_H
#define XSAVESHIM_EXECUTABLE_H

#include <limits.h>

enum executable_kind {
	EXECUTABLE_DYNAMIC,	  // an x86-64 program with a loader, which obeys LD_PRELOAD
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

// Finds a command as execvp does. Returns 0 or an errno. The errno is ENOENT if there is no such
// command, and another if the command cannot be executed or read.
int executable_find(struct executable *executable, const char *name);

// Returns how the program gains privileges ("is setuid", "is setgid" or "has file capabilities"),
// if its loader will ignore LD_PRELOAD for that reason. Otherwise returns NULL. ld.so(8) describes
// this secure-execution mode.
const char *executable_gains(const struct executable *executable);

#endif
