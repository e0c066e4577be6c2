// SPDX-License-Identifier: MIT
// Finds the running VMMs, and the mode that serves each of them, in /proc.
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
	NOT_PERMITTED, // to this user
	NO_ANSWER,     // a file in its /proc/PID did not answer in time
	NO_TIME,       // processes before it have used up the time for all
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

// Inspects every process. A process that gives no answer within a second is given up, and so are
// all after 30 seconds. Returns false, with errno set, if /proc cannot be read.
bool inspect_processes(struct inspection *inspection);

// Returns true if xsaveshim is known to trim what the VMM restores.
bool inspect_is_protected(const struct vmm *vmm);

#endif
