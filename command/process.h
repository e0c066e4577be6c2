// SPDX-License-Identifier: MIT
// Inspects one process, which may be a VMM, with or without the library, or a supervisor. The
// kernel may make the caller wait for the process without end, even if the caller is killed. Only a
// worker process (inspect.c) may call process_inspect().
#ifndef XSAVESHIM_PROCESS_H
#define XSAVESHIM_PROCESS_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "proc_text.h"
#include "xsaveshim/record.h"

enum mode {
	MODE_NONE,
	MODE_BYPASSED, // the VMM has the library, but calls the kernel without libc
	MODE_LIBRARY,
	MODE_SUPERVISOR,
	MODE_HOST, // process_inspect() cannot find this mode in /proc
};

// The contents of the record of a library or of a supervisor.
struct state {
	bool known; // the record could be read
	struct settings settings;
	bool log_is_open;
	enum log_target log_in_use; // where the lines of the log go, if the log is open
	uint64_t counts[RECORD_COUNTS];
};

// The file of the library or of the command that a process has mapped, and the record in the memory
// of that process.
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
	struct state state; // the state of the mode that serves the VMM
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

// Inspects the process and calls the visitor for what it finds: a VMM, or each process that this
// supervisor supervises. Returns false if the caller may not inspect the process.
bool process_inspect(pid_t pid, const struct process_visitor *visitor);

#endif
