// SPDX-License-Identifier: MIT
// The pins of the BPF programs in the bpffs. A set of programs has a directory of its own: PINS if it
// is in use, NEW_PINS before that, OLD_PINS after another set has replaced it.
#ifndef XSAVESHIM_HOST_PINS_H
#define XSAVESHIM_HOST_PINS_H

#include <stdbool.h>
#include <stddef.h>

#define BPFFS "/sys/fs/bpf"
#define PINS BPFFS "/xsaveshim"
#define NEW_PINS PINS "-new"
#define OLD_PINS PINS "-old"

enum pin { PIN_ENTRY, PIN_AGAIN, PIN_EXIT, PIN_EXIT2, PIN_GONE, PIN_MADE, PIN_COUNT };

// In the order of removal. The entry's link is pinned last and removed first: a set with this pin is
// complete, and no call has an entry and no exit.
extern const struct pin_names {
	const char *link;
	const char *program; // for programs that are retired (retire.h); NULL: none
} pin_names[PIN_COUNT];

// The next call overwrites the result.
const char *pin_path(const char *directory, const char *name);

// Returns false also if the directory is a link or another user's.
bool pins_are_complete(const char *directory);

// Returns NULL, or one line that says why programs cannot be pinned safely in the bpffs. In a bpffs
// that others may write, they could replace our directories by links.
const char *pins_problem(void);

// Makes the new set the current one. On failure, returns false with errno, and the old set is still
// the current one.
bool pins_replace(void);

// Finishes the work of a command that was killed: a complete new set becomes the current one,
// everything else is retired.
void pins_clean_up(void);

#endif
