// SPDX-License-Identifier: MIT
// Small helpers of the command, the supervisor and the host mode. Thread-safe.
#ifndef XSAVESHIM_HELPERS_H
#define XSAVESHIM_HELPERS_H

#include <stddef.h>
#include <sys/types.h>

// Returns the array, which holds count elements of this size, with memory for one more. If there is
// no memory, the program ends with a message and exit status 2.
void *grow(void *array, size_t count, size_t size);

// Reads at most size - 1 bytes of a file and ends them with a zero. dirfd and path are openat's.
// Returns the number of bytes, or -1 with errno set and an empty text.
ssize_t read_file(int dirfd, const char *path, char *text, size_t size);

#endif
