// SPDX-License-Identifier: MIT
// Loads, attaches, pins, finds and checks the host mode's BPF programs. Each function that returns
// a text returns NULL on success. On failure the function returns one line that gives the reason.
// The next call overwrites the line.
#ifndef XSAVESHIM_HOST_LOADER_H
#define XSAVESHIM_HOST_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "programs.h"
#include "selftest.h"

// The attached BPF programs. If the programs are not pinned in this bpffs instance, the loader
// finds them by name, because pins in other instances are not visible here.
struct attachment {
	uint32_t program; // the id of the program at the entry; 0: no program is attached
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

// Takes the host mode's lock. Waits at most this number of seconds for another process to release
// the lock. loader_unlock() or the end of this process releases the lock.
const char *loader_lock(unsigned int seconds);
void loader_unlock(void);

// Finishes the work of an `xsaveshim host` command that was killed. The caller must hold the lock.
void loader_clean_up(void);

// Loads and attaches this version's BPF programs, and checks that they work. Replaces the pinned
// programs, if any. A failure changes nothing. Sets *forgets if the old and the new programs cannot
// share their maps: the old counts and the old table of vCPUs are lost in that case. The caller
// must hold the lock.
const char *loader_enable(struct host_settings settings, bool *forgets);

// Removes the BPF programs, and waits until a self-test shows that they no longer trim payloads.
// The caller must hold the lock.
const char *loader_disable(const struct attachment *attachment);

// Finds the BPF programs that are pinned in this bpffs instance. If there are none, finds any
// programs of xsaveshim that are attached. Returns false if no programs are attached. The caller
// must call loader_close() in any case.
bool loader_find(struct attachment *attachment);
void loader_close(struct attachment *attachment);

// Runs the self-test, and checks that the attached BPF programs do what their settings say.
struct host_check loader_check(const struct attachment *attachment);

// Returns how many BPF programs of xsaveshim are attached.
unsigned int loader_links(void);

// Returns how often the kernel has skipped one of xsaveshim's BPF programs. The kernel counts the
// skips of fentry, fexit and kretprobe programs. From Linux 6.12 on it also counts the skips of
// kprobe programs. After a skip, another program may still have seen the entry or the exit of the
// same call.
uint64_t loader_skipped(void);

// Reads the counts of the attached BPF programs. Returns false if another version of xsaveshim has
// loaded the programs.
bool loader_counts(const struct attachment *attachment, uint64_t counts[HOST_COUNTS]);

#endif
