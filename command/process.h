// SPDX-License-Identifier: MIT
// Inspects one process, which may be a VMM or a supervisor. Reading a file in the process's /proc
// directory may block for ever, and even SIGKILL may not end the reader. Therefore, only the worker
// process that `xsaveshim status` forks may call process_inspect(): if the worker is blocked,
// `xsaveshim status` starts another worker and continues (inspect.c).
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
	MODE_HOST, // the host mode; /proc does not show it, so status.c sets this value
};

// The contents of the record (xsaveshim/record.h) that the library or a supervisor keeps in memory.
// The host mode has no record: for MODE_HOST, status.c sets `known` and `settings`.
struct state {
	bool known; // the record could be read
	struct settings settings;
	bool log_is_open;
	enum log_target log_in_use; // where reports go, if the log is open
	uint64_t counts[RECORD_COUNTS];
};

// A file that a process has mapped, and the record in the process's memory. In a VMM, the file is
// the library. In a supervisor, the file is the xsaveshim command.
struct image {
	bool mapped;
	char path[PATH_MAX]; // the file's path in the process's mount namespace
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
	void (*vmm)(const struct vmm *vmm); // vmm->mode is not set: inspect.c sets it later
	void (*supervision)(const struct supervision *supervision);
};

// Inspects the process. If the process is a VMM, calls visitor->vmm. If the process is a
// supervisor, calls visitor->supervision for each process whose pidfd the supervisor holds. Returns
// false if this user may not inspect the process.
bool process_inspect(pid_t pid, const struct process_visitor *visitor);

#endif
