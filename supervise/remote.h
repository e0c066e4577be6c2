// SPDX-License-Identifier: MIT
// Access to another process: its memory, its descriptors, and whether it shares them with a third
// process or with this one.
//
// tid is any thread of the process. A function that fails returns -1 or false and sets errno: ESRCH
// where the thread has exited, EPERM or EACCES where this process may not access it, EFAULT where
// the memory is not mapped. Nothing here keeps state. Thread-safe.
#ifndef XSAVESHIM_REMOTE_H
#define XSAVESHIM_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Reads size bytes: all of them, or it fails.
bool remote_read(pid_t tid, uint64_t address, void *to, size_t size);

// Opens the memory for remote_memory_write. It stays the memory of the program that the thread is
// running now: a caller that opens it, and then sees that the thread is still blocked in its call,
// cannot write into another program's memory.
int remote_memory_open(pid_t tid);

// Writes size bytes and closes memory. As with a debugger, it also writes to private memory that is
// mapped read-only: the process gets its own copy of the page, and the file behind the mapping does
// not change. Fails for shared memory that is read-only.
bool remote_memory_write(int memory, uint64_t address, const void *from, size_t size);

// The id of the vCPU behind a descriptor. Fails with ENOENT where the descriptor is not a vCPU.
int remote_vcpu_id(pid_t tid, int fd);

// The pids of the thread's process and of its parent process.
bool remote_process(pid_t tid, pid_t *process, pid_t *parent);

// Whether two threads share their memory, as those of one process do. False where the kernel cannot
// say.
bool remote_shares_memory(pid_t tid, pid_t other);

// Whether a descriptor of one thread and a descriptor of another are the same open file. False
// where the kernel cannot say.
bool remote_same_file(pid_t tid, int fd, pid_t other, int other_fd);

// Whether a descriptor of a process is not the open file that own_fd is here: closed, another file,
// or the process has exited. False where the kernel cannot say.
bool remote_has_another_file(pid_t pid, int fd, int own_fd);

#endif
