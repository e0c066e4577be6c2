// SPDX-License-Identifier: MIT
// The name that a VMM's command line gives its guest.
#ifndef XSAVESHIM_GUEST_NAME_H
#define XSAVESHIM_GUEST_NAME_H

#include <stdbool.h>
#include <stddef.h>

// From the size bytes of a /proc/PID/cmdline, which may hold anything: QEMU's -name guest=NAME,...
// or -name NAME, else Firecracker's
// --id NAME. False if there is none, or an empty one. Cuts a name that is longer than name_size
// - 1.
bool guest_name_from_cmdline(const char *cmdline, size_t size, char *name, size_t name_size);

#endif
