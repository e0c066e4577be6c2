// SPDX-License-Identifier: MIT
// Inspects one process, which may be a VMM or a supervisor. Reading the process's files in /proc
// may block the caller for ever, even if the caller is killed. Therefore only a worker process
// (inspect.c) may call process_inspect().
#ifndef XSAVESHIM_PROCESS_H
#define XSAVESHIM_PROCESS_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "proc_text.h"
#include "xsaveshim/record.h"

enum mode {
	MODE_NONE,
	MODE_BYPASSED, // the VMM has loaded the library, but calls the kernel without libc
	MODE_LIBRARY,
	MODE_SUPERVISOR,
	MODE_HOST, // process_inspect() cannot find this mode in /proc
};

// The contents of the record (xsaveshim/record.h) that a library or a supervisor has in its memory.
struct state {
	bool known; // the record could be read
	struct settings settings;
	bool log_is_open;
	enum log_target log_in_use; // where the lines of the log go, if the log is open
	uint64_t counts[RECORD_COUNTS];
};

// A file that a process has mapped, and the record in the memory of that process. The file is the
// library, or the xsaveshim command of a supervisor.
struct image {
	bool mapped;
	char path[PATH_MAX]; // the file's path, as the process sees the file system
	bool replaced;	     // the file has been removed or replaced
	bool vcpu_seen;
	struct state state;
};

struct vmm {
	pid_t pid;
	uid_t uid;     // the effective user id
	bool filtered; // the VMM has a seccomp filter
	bool is_libvirts;
	unsigned int vcpus;
	char name[256];
	enum mode mode;
	struct image library;
	pid_t supervisor;   // 0: the VMM has no supervisor
	struct state state; // the settings and counts of the mode that serves the VMM
};

// A process, and a supervisor that holds a pidfd of the process.
struct supervision {
	pid_t pid;
	pid_t supervisor;
	uid_t supervisor_uids[PROC_UIDS];
	struct image command;
};

struct process_visitor {
	void (*vmm)(const struct vmm *vmm); // the VMM's mode is not set yet
	void (*supervision)(const struct supervision *supervision);
};

// Inspects the process. If the process is a VMM, calls the visitor for the VMM. If the process is a
// supervisor, calls the visitor for each process that the supervisor supervises. Returns false if
// the caller may not inspect the process.
bool process_inspect(pid_t pid, const struct process_visitor *visitor);

#endif
