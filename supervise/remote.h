// SPDX-License-Identifier: MIT
// Access to the memory and the descriptors of another process. tid is any of its threads.
//
// A function that fails returns -1 or false and sets errno: ESRCH if the thread has exited, EPERM
// or EACCES if this process may not access it, EFAULT if the memory is not mapped. Thread-safe.
#ifndef XSAVESHIM_REMOTE_H
#define XSAVESHIM_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Reads all size bytes, or fails.
bool remote_read(pid_t tid, uint64_t address, void *to, size_t size);

// Opens the memory for remote_memory_write. It stays that of the program that the thread runs now:
// if the thread is then still blocked in its call, it is the memory that the call is about.
int remote_memory_open(pid_t tid);

// Writes size bytes and closes memory. Like a debugger, it also writes to private read-only memory:
// the process gets its own copy of the page. Fails for shared read-only memory.
bool remote_memory_write(int memory, uint64_t address, const void *from, size_t size);

// Returns the id of a descriptor's vCPU. Fails with ENOENT if the descriptor is no vCPU.
int remote_vcpu_id(pid_t tid, int fd);

// Finds the pids of the thread's process and of its parent process.
bool remote_process(pid_t tid, pid_t *process, pid_t *parent);

// The following return false if the kernel was built without kcmp().

// Returns true if two threads share their memory, as those of one process do.
bool remote_shares_memory(pid_t tid, pid_t other);

// Returns true if two descriptors of a thread are the same open file.
bool remote_same_file(pid_t tid, int fd, int other_fd);

// Returns true if the process has exited, or its fd is not the same open file as this process's.
bool remote_has_another_file(pid_t pid, int fd);

#endif
