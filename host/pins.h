// SPDX-License-Identifier: MIT
// The pins of the BPF programs in the bpffs. Each set of programs has a directory of its own. The
// directory is NEW_PINS before the set is in use, PINS while it is in use, and OLD_PINS after
// another set has replaced it.
#ifndef XSAVESHIM_HOST_PINS_H
#define XSAVESHIM_HOST_PINS_H

#include <stdbool.h>
#include <stddef.h>

#define BPFFS "/sys/fs/bpf"
#define PINS BPFFS "/xsaveshim"
#define NEW_PINS PINS "-new"
#define OLD_PINS PINS "-old"

enum pin { PIN_ENTRY, PIN_AGAIN, PIN_EXIT, PIN_EXIT2, PIN_GONE, PIN_MADE, PIN_COUNT };

// The pins, in the order of their removal. The link of the program at the entry is pinned last and
// removed first. A set that has the pin of this link is complete. Whenever a program sees a call's
// entry, another program can see the exit.
extern const struct pin_names {
	const char *link;
	const char *program; // the pin of a program that retire.h keeps; NULL: no pin
} pin_names[PIN_COUNT];

// Returns the path of a pin, which the next call overwrites.
const char *pin_path(const char *directory, const char *name);

// Returns true if the directory has a complete set. Returns false if the directory is a link, or
// belongs to another user.
bool pins_are_complete(const char *directory);

// Returns NULL, or one line that says why programs cannot be pinned safely in the bpffs. If other
// users may write to the bpffs, they could replace our directories by links.
const char *pins_problem(void);

// Makes the new set the current set. If this fails, returns false with errno set, and the old set
// stays the current set.
bool pins_replace(void);

// Finishes the work of a command that was killed. Makes a new set the current set if the new set is
// complete, and retires all other sets.
void pins_clean_up(void);

#endif
