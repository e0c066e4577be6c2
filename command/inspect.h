// SPDX-License-Identifier: MIT
// Finds the running VMMs, and the mode that serves each of them, in /proc.
//
// Not thread-safe. If there is no memory left, the program ends.
#ifndef XSAVESHIM_INSPECT_H
#define XSAVESHIM_INSPECT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "xsaveshim/settings.h"

enum mode {
	MODE_NONE,
	MODE_BYPASSED, // the VMM has the library, but calls the kernel without libc
	MODE_LIBRARY,
	MODE_SUPERVISOR,
	MODE_HOST, // not found here: /proc does not show it
};

// The file of the library or of the command that a process has mapped, and the record in the memory
// of that process.
struct image {
	bool mapped;
	char path[PATH_MAX]; // as the process sees the file system
	bool replaced;	     // the file has been removed or replaced
	bool known;	     // the record could be read; it says the rest
	bool vcpu_seen;
	struct settings settings;
};

struct vmm {
	pid_t pid;
	uid_t uid;     // effective
	bool filtered; // has a seccomp filter
	unsigned int vcpus;
	char name[256];
	enum mode mode;
	struct image library;
	bool settings_known;
	struct settings settings; // if known, those of the mode that serves the VMM
};

struct inspection {
	struct vmm *vmms;
	size_t vmm_count;
	unsigned int not_inspected; // processes that the caller may not inspect
};

// Inspects every process. Returns false, with errno set, if /proc cannot be read.
bool inspect_processes(struct inspection *inspection);

// Returns true if xsaveshim is known to trim what the VMM restores.
bool inspect_is_protected(const struct vmm *vmm);

#endif
