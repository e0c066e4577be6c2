// SPDX-License-Identifier: MIT
// The pins of the host mode's BPF programs in the BPF file system (bpffs). Each set of programs has
// its own directory there. The directory's name is NEW_PINS before the set is in use, PINS while
// the set is in use, and OLD_PINS after another set has replaced the set.
#ifndef XSAVESHIM_HOST_PINS_H
#define XSAVESHIM_HOST_PINS_H

#include <stdbool.h>
#include <stddef.h>

#define BPFFS "/sys/fs/bpf"
#define PINS BPFFS "/xsaveshim"
#define NEW_PINS PINS "-new"
#define OLD_PINS PINS "-old"

enum pin {
	PIN_ENTRY,
	PIN_AGAIN,
	PIN_AGAIN2,
	PIN_AGAIN3,
	PIN_EXIT,
	PIN_EXIT2,
	PIN_GONE,
	PIN_MADE,
	PIN_COUNT
};

// The names of the pins, in the order in which retire() removes the pins. The link of
// xsaveshim_entry is pinned last and removed first. So a directory that has the pin of this link
// has a complete set of pins. In the same order, retire() detaches the programs: first those at the
// entry of an ioctl, then those at its exit.
extern const struct pin_names {
	const char *link;
	const char *program; // the pin of the program itself; NULL: only the link has a pin
} pin_names[PIN_COUNT];

// Returns the path of the pin with this name. The next call overwrites the path.
const char *pin_path(const char *directory, const char *name);

// Returns true if the directory has a complete set of pins. Returns false if the directory is a
// symbolic link, or belongs to a user other than root.
bool pins_are_complete(const char *directory);

// Returns NULL if programs can be pinned safely in the bpffs, and otherwise one line that says why
// not. A user who may write to the bpffs could replace xsaveshim's directories by symbolic links.
const char *pins_problem(void);

// Renames PINS to OLD_PINS and NEW_PINS to PINS, so that the new set of programs becomes the
// current set. On failure, keeps the current set, sets errno and returns false.
bool pins_replace(void);

#endif
