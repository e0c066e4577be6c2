// SPDX-License-Identifier: MIT
// Loads, attaches, pins, finds and checks the host mode's BPF programs. A function that returns
// const char * returns NULL on success, and on failure one line that gives the reason. The next
// failure may overwrite this line.
#ifndef XSAVESHIM_HOST_LOADER_H
#define XSAVESHIM_HOST_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "programs.h"
#include "selftest.h"

// Describes the attached BPF programs. If no programs are pinned in /sys/fs/bpf, the loader finds
// the programs by their names, because they may be pinned in a bpffs instance that is mounted
// elsewhere.
struct attachment {
	uint32_t program; // the id of the program xsaveshim_entry; 0: no programs are attached
	bool pinned;	  // the programs are pinned in /sys/fs/bpf
	int events_map;
	// HOST_COUNTS elements. NULL: no programs are attached, or they have more or fewer counts.
	const uint64_t *counts;
	bool has_settings;
	struct host_settings settings;
};

enum host_state { HOST_ACTIVE, HOST_INACTIVE, HOST_UNKNOWN };

struct host_check {
	enum host_state state;
	struct selftest selftest;
	char reason[400];
};

// Takes the lock that a process must hold while it changes the host mode's BPF programs. If another
// process holds the lock, waits for the lock, but at most `seconds` seconds. loader_unlock() or the
// end of this process releases the lock.
const char *loader_lock(unsigned int seconds);
void loader_unlock(void);

// If an `xsaveshim host` command was killed while it changed the BPF programs, finishes or undoes
// the change. If NEW_PINS has a complete set of pins, first makes this set the current set. Then
// calls retire() for each other set, and for the current set if some of its pins are missing. Call
// loader_lock() first.
void loader_clean_up(void);

// Loads and attaches this version's BPF programs, checks that they work, and replaces programs that
// are already pinned. If loader_enable fails, the pinned programs stay as they were. Sets *forgets
// to true if the new programs cannot use the maps of the replaced programs: then the old counts and
// the old table of vCPUs are lost. Call loader_lock() first.
const char *loader_enable(struct host_settings settings, bool *forgets);

// Detaches the BPF programs, and waits until a self-test shows that they no longer clear bits of a
// payload's XSTATE_BV. Call loader_lock() first.
const char *loader_disable(const struct attachment *attachment);

// Finds the BPF programs that are pinned in /sys/fs/bpf. If none are pinned there, finds any
// attached programs of xsaveshim. Returns false if no programs are attached. After each call of
// loader_find(), call loader_close().
bool loader_find(struct attachment *attachment);
void loader_close(struct attachment *attachment);

// Runs the self-test, and tells whether the attached BPF programs do what their settings say.
struct host_check loader_check(const struct attachment *attachment);

// Returns how many BPF programs of xsaveshim are attached.
unsigned int loader_links(void);

// Returns how often the kernel has skipped any of xsaveshim's BPF programs. The kernel counts the
// skips of fentry, fexit and kretprobe programs, and from Linux 6.7 on those of kprobe programs,
// too. Not every skip is a missed call, because several programs can see the same call.
uint64_t loader_skipped(void);

// Reads the counts of the attached BPF programs. Returns false if no programs are attached, or if
// another version of xsaveshim, which has more or fewer counts, has loaded the programs.
bool loader_counts(const struct attachment *attachment, uint64_t counts[HOST_COUNTS]);

#endif
