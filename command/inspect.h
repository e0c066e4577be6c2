// SPDX-License-Identifier: MIT
// Searches /proc for the running VMMs, and for the mode (library or supervisor) that serves each
// VMM.
//
// Not thread-safe. If there is no memory left, the program ends.
#ifndef XSAVESHIM_INSPECT_H
#define XSAVESHIM_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "process.h"

// Why a process was not inspected.
enum obstruction {
	NOT_PERMITTED, // this user may not inspect the process
	NO_ANSWER,     // a file in the process's /proc/PID did not answer in time
	NO_TIME,       // other processes have used up the time for all processes
};

struct not_inspected {
	pid_t pid;
	enum obstruction obstruction;
};

struct inspection {
	struct vmm *vmms;
	size_t vmm_count;
	struct not_inspected *not_inspected;
	size_t not_inspected_count;
};

// Inspects every process. Gives up a process whose files in /proc do not answer within a second.
// Gives up all remaining processes after 30 seconds. Returns false, with errno set, if /proc cannot
// be read.
bool inspect_processes(struct inspection *inspection);

// Returns true if xsaveshim is known to trim the payloads that the VMM restores.
bool inspect_is_protected(const struct vmm *vmm);

#endif
