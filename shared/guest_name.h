// SPDX-License-Identifier: MIT
// The name that a VMM's command line gives its guest.
#ifndef XSAVESHIM_GUEST_NAME_H
#define XSAVESHIM_GUEST_NAME_H

#include <stdbool.h>
#include <stddef.h>

// Finds the name in the size bytes of a /proc/PID/cmdline, which may hold anything: the argument of
// QEMU's -name, else of Firecracker's --id, cut to fit. Returns false if there is none or no text.
bool guest_name_from_cmdline(const char *cmdline, size_t size, char *name, size_t name_size);

#endif
