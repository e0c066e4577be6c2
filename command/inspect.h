// SPDX-License-Identifier: MIT
// Searches /proc for the running VMMs, and finds out whether the library or a supervisor serves
// each VMM.
//
// Not thread-safe. If memory runs out, the program ends.
#ifndef XSAVESHIM_INSPECT_H
#define XSAVESHIM_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "process.h"

// Why a process was not inspected.
enum obstruction {
	NOT_PERMITTED, // this user may not inspect the process
	NO_ANSWER,     // reading a file in the process's /proc directory blocked
	NO_TIME,       // 30 seconds had passed before the process was inspected
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

// Inspects every process. Skips a process if reading a file in the process's /proc directory blocks
// for a second. After 30 seconds, skips all remaining processes. If /proc cannot be read, sets
// errno and returns false.
bool inspect_processes(struct inspection *inspection);

// Returns true if it is known that xsaveshim trims the payloads that this VMM passes to
// KVM_SET_XSAVE.
bool inspect_is_protected(const struct vmm *vmm);

#endif
