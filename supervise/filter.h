// SPDX-License-Identifier: MIT
// The seccomp filter of a supervised VMM. The filter makes the kernel notify the supervisor of the
// ioctls that the supervisor watches. The filter lets every other system call pass.
//
// A function that fails ends the program with a message. The functions are not thread-safe.
#ifndef XSAVESHIM_FILTER_H
#define XSAVESHIM_FILTER_H

#include <linux/filter.h>

// Returns the filter. Its instructions are in static memory.
struct sock_fprog filter_make(void);

// Loads the filter into the calling process, which can never remove the filter. The process must
// have only one thread. Returns the listener: the descriptor at which the kernel's notifications
// arrive.
int filter_load(const struct sock_fprog *filter);

#endif
