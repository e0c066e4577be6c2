// SPDX-License-Identifier: MIT
// Access to another process: its memory, its descriptors, and whether it shares them with a third
// process or with this one.
//
// tid is any thread of the process. A function that fails returns -1 or false and sets errno: ESRCH
// if the thread has exited, EPERM or EACCES if this process may not access it, EFAULT if the memory
// is not mapped. Nothing here keeps state. Thread-safe.
//
// Each of these functions may wait for as long as the other process wants: for memory that the
// process provides itself (userfaultfd, FUSE), or for the end of its exec. Never call one while you
// hold a lock.
#ifndef XSAVESHIM_REMOTE_H
#define XSAVESHIM_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Reads exactly size bytes.
bool remote_read(pid_t tid, uint64_t address, void *to, size_t size);

// Opens the memory for remote_memory_write. The descriptor stays with the memory of the program
// that the thread is running now: a caller that opens it, and then sees that the thread is still
// blocked in its call, cannot write into another program's memory.
int remote_memory_open(pid_t tid);

// Writes size bytes and closes memory. As with a debugger, it also writes to private memory that is
// mapped read-only: the process gets its own copy of the page, and the file behind the mapping does
// not change. Fails for shared memory that is read-only.
bool remote_memory_write(int memory, uint64_t address, const void *from, size_t size);

// Returns the id of the vCPU behind a descriptor. Fails with ENOENT if the descriptor is not a
// vCPU.
int remote_vcpu_id(pid_t tid, int fd);

// Finds the pids of the thread's process and of its parent process.
bool remote_process(pid_t tid, pid_t *process, pid_t *parent);

// Returns true if two threads share their memory, as those of one process do, and false if the
// kernel cannot say.
bool remote_shares_memory(pid_t tid, pid_t other);

// Returns true if two descriptors of a thread are the same open file, and false if the kernel
// cannot say.
bool remote_same_file(pid_t tid, int fd, int other_fd);

// Returns true if the descriptor fd of a process is closed or is another open file than own_fd is
// here, or if the process has exited. Returns false if the kernel cannot say.
bool remote_has_another_file(pid_t pid, int fd, int own_fd);

// A thread that is blocked in a watched call until the supervisor answers the notification.
struct caller {
	pid_t tid;
	int listener;
	uint64_t notification;
};

// Returns true if the caller is still blocked. Whoever has looked at the caller's process must
// check it afterwards: the kernel may have given the tid to another process. Never waits.
bool caller_waits(const struct caller *caller);

#endif
