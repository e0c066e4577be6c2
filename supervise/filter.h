// SPDX-License-Identifier: MIT
// The seccomp filter with which the kernel notifies the supervisor of the watched ioctls, and lets
// every other call pass.
//
// Both functions end the program with a message if they fail. Not thread-safe.
#ifndef XSAVESHIM_FILTER_H
#define XSAVESHIM_FILTER_H

#include <linux/filter.h>

// Makes the filter. The instructions are static memory.
struct sock_fprog filter_make(void);

// Puts the calling process, which has one thread, under the filter for good. Returns the listener:
// the descriptor at which the notifications arrive.
int filter_load(const struct sock_fprog *filter);

#endif
