// SPDX-License-Identifier: MIT
// Small helper functions for the xsaveshim command, the supervisor and the host mode. All functions
// are thread-safe.
#ifndef XSAVESHIM_HELPERS_H
#define XSAVESHIM_HELPERS_H

#include <stddef.h>
#include <sys/types.h>

// Enlarges an array of count elements by one element, and returns the array. size is the size of
// one element. If no memory is left, prints a message and ends the program with exit status 2.
void *grow(void *array, size_t count, size_t size);

// Reads at most size - 1 bytes of a file into text, and adds a zero byte. dirfd and path have the
// same meaning as in openat(2). Returns the number of bytes read. If the file cannot be read,
// returns -1, sets errno, and leaves text empty.
ssize_t read_file(int dirfd, const char *path, char *text, size_t size);

#endif
