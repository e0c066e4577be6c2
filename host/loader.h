// SPDX-License-Identifier: MIT
// Loads, attaches, pins, finds and checks the BPF programs. Each function that returns a text
// returns NULL on success. On failure the function returns one line with the reason. The next call
// overwrites the line.
#ifndef XSAVESHIM_HOST_LOADER_H
#define XSAVESHIM_HOST_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "programs.h"
#include "selftest.h"

// Attached programs. The loader finds them by name, because a pin is visible in one bpffs instance
// only.
struct attachment {
	uint32_t program; // the id of the program at the entry; 0: none is attached
	bool pinned;	  // the programs are pinned in this bpffs instance
	int events_map;
	const uint64_t *counts; // HOST_COUNTS counts; NULL: another version has loaded the programs
	bool has_settings;
	struct host_settings settings;
};

enum host_state { HOST_ACTIVE, HOST_INACTIVE, HOST_UNKNOWN };

struct host_check {
	enum host_state state;
	struct selftest selftest;
	char reason[400];
};

// Takes the lock, and waits at most this number of seconds for another process to release it.
// loader_unlock() or the end of this process releases the lock.
const char *loader_lock(unsigned int seconds);
void loader_unlock(void);

// Finishes the work of a command that was killed. The caller must hold the lock.
void loader_clean_up(void);

// Loads and attaches this version's programs, checks that they work, and replaces the pinned
// programs, if any. A failure changes nothing. Sets *forgets if the pinned programs have other
// tables: then their counts and their table of vCPUs are lost. The caller must hold the lock.
const char *loader_enable(struct host_settings settings, bool *forgets);

// Removes the programs, and waits until KVM shows that they no longer act. The caller must hold the
// lock.
const char *loader_disable(const struct attachment *attachment);

// Finds the programs that are pinned here, or else any programs that are attached. Returns false if
// no programs are attached. The caller must call loader_close() in both cases.
bool loader_find(struct attachment *attachment);
void loader_close(struct attachment *attachment);

// Runs the self-test, and checks that the programs do what their settings say.
struct host_check loader_check(const struct attachment *attachment);

// Returns how many programs of xsaveshim are attached.
unsigned int loader_links(void);

// Returns how often the kernel has skipped one of the programs. The kernel counts skipped programs
// of types fentry and fexit, the skipped kretprobe, and (from Linux 6.12 on) skipped kprobes. A
// skipped program does not always mean a missed entry or exit.
uint64_t loader_skipped(void);

// Returns false if another version has loaded the programs.
bool loader_counts(const struct attachment *attachment, uint64_t counts[HOST_COUNTS]);

#endif
