// SPDX-License-Identifier: MIT
// The BPF programs as they are attached, pinned, found and asked for.
#ifndef XSAVESHIM_HOST_LOADER_H
#define XSAVESHIM_HOST_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "selftest.h"
#include "programs.h"

#define BPFFS "/sys/fs/bpf"
#define PINS BPFFS "/xsaveshim"

// Programs that are attached. Found by their name, as pins are seen in one bpffs instance alone.
struct attachment {
	uint32_t program; // the id of the entry's; 0: there are none
	bool pinned;	  // in this bpffs instance
	int events_map;
	const uint64_t *counts; // HOST_COUNTS of them, where the programs keep them; NULL: another
				// version's
	struct host_settings settings;
};

enum host_state { HOST_ACTIVE, HOST_INACTIVE, HOST_UNKNOWN };

struct host_check {
	enum host_state state;
	struct selftest selftest;
	char reason[400]; // why it is so
};

// Waits until no other process changes what is attached. The kernel lets go of the lock when this
// process ends, or at loader_unlock.
bool loader_lock(void);
void loader_unlock(void);

// Ends what a process that was killed left half-way: what was proven is pinned, anything else is
// removed. With the lock.
void loader_clean_up(void);

// Loads and attaches programs of this version, and sees that they work; then they take the place of
// those that are pinned, if any. False, with the reason on stderr and nothing changed, where that
// cannot be done. With the lock.
bool loader_enable(struct host_settings settings);

// Removes the pins. With the lock.
void loader_unpin(void);

// The programs that are pinned here, else those that are attached at all; close it. False: there
// are none.
bool loader_find(struct attachment *attachment);
void loader_close(struct attachment *attachment);

// Asks KVM whether the programs do what they are set to do.
struct host_check loader_check(const struct attachment *attachment);

// Waits, for some seconds at most, until no programs are found; true if that came.
bool loader_wait_gone(struct attachment *left);

// To be called when loader_find() finds none. Waits, for half a minute at most, until KVM shows
// that no program acts any longer; returns what KVM showed last.
struct host_check loader_wait_detached(const struct attachment *none);

bool loader_counts(const struct attachment *attachment, uint64_t counts[HOST_COUNTS]);

#endif
