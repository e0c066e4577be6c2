// SPDX-License-Identifier: MIT
// Reads and writes another process's memory, and examines another process's descriptors.
//
// tid: the id of any thread of the other process. A function that fails returns -1 or false and
// sets errno: ESRCH or ENOENT if the thread has exited, EPERM or EACCES if this process may not
// access the thread, EFAULT (remote_read) or EIO (remote_memory_write) if the memory is not mapped.
// The functions are thread-safe.
//
// The other process can block most remote_ functions for as long as it wants. For example, the
// process can provide its memory by userfaultfd or FUSE, and never deliver the page that
// remote_read needs. Or the process can stay in execve(2). The kernel then holds a lock that some
// of the functions need. So never call a remote_ function while you hold a lock.
#ifndef XSAVESHIM_REMOTE_H
#define XSAVESHIM_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Reads exactly size bytes at address in the thread's memory.
bool remote_read(pid_t tid, uint64_t address, void *to, size_t size);

// Opens the thread's memory for remote_memory_write. The returned descriptor refers to the memory
// of the program that the thread runs now, even if the thread later executes another program. Call
// caller_waits after remote_memory_open. If it returns true, the thread still waited for the answer
// to its ioctl when the memory was opened, so the descriptor refers to this thread's memory. If it
// returns false, the tid may have belonged to another thread: close the descriptor, write nothing.
int remote_memory_open(pid_t tid);

// Writes size bytes to address. memory: the descriptor that remote_memory_open returned;
// remote_memory_write always closes it. Like a debugger, remote_memory_write also writes to private
// memory that is mapped read-only. The process then gets its own copy of the page, and the file
// behind the mapping does not change. remote_memory_write fails for shared memory that is mapped
// read-only.
bool remote_memory_write(int memory, uint64_t address, const void *from, size_t size);

// Returns the id of the vCPU that the thread's descriptor fd refers to. Fails with ENOENT if fd is
// closed or does not refer to a vCPU.
int remote_vcpu_id(pid_t tid, int fd);

// Sets *process to the pid of the thread's process, and *parent to the pid of the parent of
// *process.
bool remote_process(pid_t tid, pid_t *process, pid_t *parent);

// Returns true if the threads tid and other share their memory, as threads of one process do.
// Returns false if they do not, or if kcmp(2) fails.
bool remote_shares_memory(pid_t tid, pid_t other);

// Returns true if the thread's descriptors fd and other_fd refer to the same open file. Returns
// false if they do not, or if kcmp(2) fails.
bool remote_same_file(pid_t tid, int fd, int other_fd);

// Compares the other process's descriptor fd with the calling process's descriptor own_fd. Returns
// true if they refer to different open files, or if the other process has exited or has closed fd.
// Returns false if they refer to the same open file, or if kcmp(2) fails for another reason, for
// example because the kernel was built without kcmp.
bool remote_has_another_file(pid_t pid, int fd, int own_fd);

// A thread that is blocked in an ioctl until the supervisor answers the kernel's notification of
// this ioctl.
struct caller {
	pid_t tid;
	int listener;
	uint64_t notification;
};

// Returns true if the caller is still blocked in its ioctl. Call caller_waits after each access to
// the caller's process, because the caller may have exited, and another thread may have got the
// caller's tid. caller_waits never blocks.
bool caller_waits(const struct caller *caller);

#endif
