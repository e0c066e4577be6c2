// SPDX-License-Identifier: MIT
// Reads the guest's name from a VMM's command line, and tells whether libvirt started the VMM.
#ifndef XSAVESHIM_GUEST_NAME_H
#define XSAVESHIM_GUEST_NAME_H

#include <stdbool.h>
#include <stddef.h>

// Copies the guest's name from the argument of QEMU's option -name or of Firecracker's option --id.
// Cuts a name that is longer than name_size - 1 bytes. cmdline points to size bytes, which come
// from /proc/PID/cmdline and may be arbitrary. Returns false if the command line has no name or an
// empty name.
bool guest_name_from_cmdline(const char *cmdline, size_t size, char *name, size_t name_size);

// Returns true if the command line belongs to a QEMU that libvirt has started.
bool guest_is_libvirts(const char *cmdline, size_t size);

#endif
