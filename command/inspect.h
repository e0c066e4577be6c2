// SPDX-License-Identifier: MIT
// The running VMMs and what serves each of them, as /proc shows them.
//
// Not thread-safe. Running out of memory ends the program.
#ifndef XSAVESHIM_INSPECT_H
#define XSAVESHIM_INSPECT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "xsaveshim/settings.h"

enum shim {
	SHIM_NONE,
	SHIM_BYPASSED, // the library is in the VMM, but the VMM calls the kernel without it
	SHIM_PRELOAD,
	SHIM_SUPERVISED,
	SHIM_HOST, // the host mode: no process shows it
};

// The file that a shim runs from, the library or the command, and the record that was found in its
// memory.
struct image {
	bool mapped;
	char path[PATH_MAX]; // as the process sees the file system
	bool replaced;	     // the file has been removed or replaced since
	bool known;	     // the record could be read, so that the following hold
	bool vcpu_seen;
	struct settings settings;
};

struct vmm {
	pid_t pid;
	uid_t uid;     // effective
	bool filtered; // has a seccomp filter
	unsigned int vcpus;
	char name[256];
	enum shim shim;
	struct image library;
	bool settings_known;
	struct settings settings; // those of the shim that serves the VMM, if they are known
};

struct inspection {
	struct vmm *vmms;
	size_t vmm_count;
	unsigned int
		not_inspected; // processes that may be VMMs, but that the caller may not inspect
};

// Looks at every process. False, with errno set, where /proc cannot be read.
bool inspect_processes(struct inspection *inspection);

// Whether the shim trims what the VMM restores; false also where its settings are not known.
bool inspect_is_protected(const struct vmm *vmm);

#endif
