// SPDX-License-Identifier: MIT
// What exec would start: which file a command is, and which loader, if any, the kernel starts it
// with.
//
// Nothing here keeps state. Not async-signal-safe.
#ifndef XSAVESHIM_EXECUTABLE_H
#define XSAVESHIM_EXECUTABLE_H

#include <limits.h>
#include <stdbool.h>

enum executable_kind {
	EXECUTABLE_DYNAMIC, // x86-64, with a loader: LD_PRELOAD can reach it
	EXECUTABLE_STATIC,  // x86-64, without one
	EXECUTABLE_FOREIGN, // ELF, but not for x86-64
	EXECUTABLE_UNKNOWN, // neither ELF nor a script
};

struct executable {
	char path[PATH_MAX];	// for execv
	char program[PATH_MAX]; // the ELF file that the kernel loads: path, or the last #!
				// interpreter that it leads to
	char loader[PATH_MAX];	// with EXECUTABLE_DYNAMIC, the program's PT_INTERP
	enum executable_kind kind;
	bool go; // written in Go, whose programs call the kernel without libc, dynamically linked
		 // or not
};

// Finds name as execvp does and follows #! lines as far as the kernel does. Returns 0 or an errno:
// ENOENT where there is no such command, EACCES and others where it cannot be executed or read.
// program is then the file that failed.
int executable_find(struct executable *executable, const char *name);

// The same for the calling program.
int executable_self(struct executable *executable);

// Why the program's loader would ignore LD_PRELOAD if this process started it: "is setuid", "is
// setgid" or "has file capabilities"; NULL where the file gives no reason. Source: ld.so(8),
// secure-execution mode.
const char *executable_gains(const struct executable *executable);

#endif
