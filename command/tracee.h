// SPDX-License-Identifier: MIT
// Another process as the supervisor sees it: its memory, its descriptors, what it shares with a third.
//
// A tid may be any thread of the process. What fails returns -1 (or false) with errno set: ESRCH where the
// thread has gone, EPERM or EACCES where this process may not look at it, EFAULT where there is no such
// memory. Nothing here keeps state. Thread-safe.
#ifndef XSAVESHIM_TRACEE_H
#define XSAVESHIM_TRACEE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Reads size bytes, all of them or none.
bool tracee_read(pid_t tid, uint64_t address, void *to, size_t size);

// Memory to be written to, with tracee_memory_write. It stays that of the program which the thread is running
// now: whoever opens it and then sees that the thread still waits cannot write into another's memory.
int tracee_memory_open(pid_t tid);

// Writes size bytes, and closes memory. Private memory that is not writable is written to as well, as by a
// debugger: the page becomes the process's own, and the file that it came from is unchanged. False for shared
// memory that is not writable.
bool tracee_memory_write(int memory, uint64_t address, const void *from, size_t size);

// The id of the vCPU behind a descriptor; -1 with ENOENT where that is not a vCPU.
int tracee_vcpu_id(pid_t tid, int fd);

// The process that a thread belongs to, or -1.
pid_t tracee_process(pid_t tid);

// Whether two threads have one table of descriptors. False where the kernel does not tell.
bool tracee_shares_descriptors(pid_t tid, pid_t other);

// Whether a descriptor of one thread is a duplicate of a descriptor of another. False where the kernel does
// not tell.
bool tracee_same_file(pid_t tid, int fd, pid_t other, int other_fd);

#endif
