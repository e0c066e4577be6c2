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

// Finds a command as execvp does. Returns 0 or an errno, ENOENT if there is no such command.
int executable_find(struct executable *executable, const char *name);

// Returns "is setuid", "is setgid" or "has file capabilities" if the program so gains privileges and
// its loader will ignore LD_PRELOAD (ld.so(8), secure-execution mode). Else returns NULL.
const char *executable_gains(const struct executable *executable);

#endif
