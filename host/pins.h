// SPDX-License-Identifier: MIT
// The pins of the host mode's BPF programs in the bpffs. Each set of programs has a directory of
// its own there. The directory's name is NEW_PINS before the set is in use, PINS while the set is
// in use, and OLD_PINS after another set has replaced the set.
#ifndef XSAVESHIM_HOST_PINS_H
#define XSAVESHIM_HOST_PINS_H

#include <stdbool.h>
#include <stddef.h>

#define BPFFS "/sys/fs/bpf"
#define PINS BPFFS "/xsaveshim"
#define NEW_PINS PINS "-new"
#define OLD_PINS PINS "-old"

enum pin { PIN_ENTRY, PIN_AGAIN, PIN_EXIT, PIN_EXIT2, PIN_GONE, PIN_MADE, PIN_COUNT };

// The names of the pins, in the order of their removal. The link of the program at the entry is
// pinned last and removed first. If a directory has the pin of this link, its set of pins is
// complete. During the removal, the programs at the exit stay attached longer than the programs at
// the entry.
extern const struct pin_names {
	const char *link;
	const char *program; // the pin of a program that retire() keeps; NULL: no such pin
} pin_names[PIN_COUNT];

// Returns the path of a pin. The next call overwrites the path.
const char *pin_path(const char *directory, const char *name);

// Returns true if the directory has a complete set of pins. Returns false if the directory is a
// symbolic link, or belongs to a user other than root.
bool pins_are_complete(const char *directory);

// Returns NULL, or one line that says why programs cannot be pinned safely in the bpffs. Users who
// may write to the bpffs could replace xsaveshim's directories by symbolic links.
const char *pins_problem(void);

// Makes the new set of programs the current set, by renaming the directories. On failure, returns
// false with errno set, and the old set stays the current set.
bool pins_replace(void);

// Finishes the work of an `xsaveshim host` command that was killed. If the new set of programs is
// complete, makes it the current set. Retires all other sets.
void pins_clean_up(void);

#endif
