// SPDX-License-Identifier: MIT
// The file that execv would start, and how it is linked. Not async-signal-safe.
#ifndef XSAVESHIM_EXECUTABLE_H
#define XSAVESHIM_EXECUTABLE_H

#include <limits.h>

enum executable_kind {
	EXECUTABLE_DYNAMIC,	  // x86-64, with a loader, which LD_PRELOAD reaches
	EXECUTABLE_SCRIPT,	  // begins with #!
	EXECUTABLE_STATIC,	  // x86-64, without a loader
	EXECUTABLE_OTHER_MACHINE, // ELF, not for x86-64
	EXECUTABLE_UNKNOWN,	  // neither ELF nor a script
};

struct executable {
	char path[PATH_MAX];   // for execv
	char loader[PATH_MAX]; // with EXECUTABLE_DYNAMIC
	enum executable_kind kind;
};

// Finds a command as execvp does. Returns 0 or an errno: ENOENT if there is no such command,
// another if it cannot be executed or read.
int executable_find(struct executable *executable, const char *name);

// If the loader of this program will ignore LD_PRELOAD because the program gains privileges,
// returns how it gains them: "is setuid", "is setgid" or "has file capabilities". Else returns
// NULL. ld.so(8) describes this secure-execution mode.
const char *executable_gains(const struct executable *executable);

#endif
