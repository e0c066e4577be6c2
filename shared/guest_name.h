// SPDX-License-Identifier: MIT
// A VMM's command line: the name that it gives the guest, and whether libvirt made it.
#ifndef XSAVESHIM_GUEST_NAME_H
#define XSAVESHIM_GUEST_NAME_H

#include <stdbool.h>
#include <stddef.h>

// Finds the name in the size bytes of a /proc/PID/cmdline, which may hold anything: the argument of
// QEMU's -name, else of Firecracker's --id, cut to fit. Returns false if there is none or no text.
bool guest_name_from_cmdline(const char *cmdline, size_t size, char *name, size_t name_size);

// Returns true if such a command line is of a QEMU that libvirt has started.
bool guest_is_libvirts(const char *cmdline, size_t size);

#endif
