// SPDX-License-Identifier: MIT
// Finds the file that execvp would start, and finds out whether the file is dynamically or
// statically linked. Not async-signal-safe.
#ifndef XSAVESHIM_EXECUTABLE_H
#define XSAVESHIM_EXECUTABLE_H

#include <limits.h>

enum executable_kind {
	EXECUTABLE_DYNAMIC,	  // an x86-64 program with a dynamic loader
	EXECUTABLE_SCRIPT,	  // a file that begins with #!
	EXECUTABLE_STATIC,	  // an x86-64 program without a dynamic loader
	EXECUTABLE_OTHER_MACHINE, // an ELF file that is not for x86-64
	EXECUTABLE_UNKNOWN,	  // neither a script nor a valid ELF file
};

struct executable {
	char path[PATH_MAX];   // the program's path, for execv
	char loader[PATH_MAX]; // the dynamic loader's path, if kind is EXECUTABLE_DYNAMIC
	enum executable_kind kind;
};

// Finds the file that execvp would start for this name. Returns 0 on success, and ENOENT if there
// is no such file. Returns another errno if the file cannot be executed or read.
int executable_find(struct executable *executable, const char *name);

// Returns "is setuid", "is setgid" or "has file capabilities" if the program gains privileges when
// it starts, and otherwise NULL. The loader of a program that gains privileges ignores LD_PRELOAD
// (ld.so(8), secure-execution mode).
const char *executable_gains(const struct executable *executable);

#endif
