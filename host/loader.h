// SPDX-License-Identifier: MIT
// Loads, attaches, pins, finds and checks the BPF programs. A function that can fail for a reason
// that the user must know returns NULL, or one line with the reason. The next call overwrites it.
#ifndef XSAVESHIM_HOST_LOADER_H
#define XSAVESHIM_HOST_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "programs.h"
#include "selftest.h"

// Attached programs. They are found by name: pins are visible in one bpffs instance only.
struct attachment {
	uint32_t program; // the id of the program at the entry; 0: none is attached
	bool pinned;	  // in this bpffs instance
	int events_map;
	const uint64_t *counts; // HOST_COUNTS of them; NULL: another version's programs
	bool has_settings;
	struct host_settings settings;
};

enum host_state { HOST_ACTIVE, HOST_INACTIVE, HOST_UNKNOWN };

struct host_check {
	enum host_state state;
	struct selftest selftest;
	char reason[400];
};

// Waits until no other process has the lock, which ends with loader_unlock() or this process.
const char *loader_lock(void);
void loader_unlock(void);

// Loads and attaches this version's programs, checks that they work, and replaces the pinned
// programs, if any, with them. On failure nothing has changed. Needs the lock.
const char *loader_enable(struct host_settings settings);

// Removes the programs, and waits until KVM shows that they no longer act. Needs the lock.
const char *loader_disable(const struct attachment *attachment);

// Finds the programs that are pinned here, else any that are attached. Returns false if there are
// none. loader_close() closes the attachment in both cases.
bool loader_find(struct attachment *attachment);
void loader_close(struct attachment *attachment);

// Runs the self-test, and checks that the programs do what their settings say.
struct host_check loader_check(const struct attachment *attachment);

// Returns how many programs of ours are attached.
unsigned int loader_links(void);

// How often the kernel has skipped one of the programs, as far as it counts that: fentry and fexit
// programs and the kretprobe, kprobes from Linux 6.12 on. A skipped program is not always a missed
// entry or exit.
uint64_t loader_skipped(void);

// Returns false if the programs are another version's.
bool loader_counts(const struct attachment *attachment, uint64_t counts[HOST_COUNTS]);

#endif
