// SPDX-License-Identifier: MIT
// The processes with the supervisor's filter that have vCPUs, and these vCPUs.
//
// The kernel notifies the supervisor before it makes a call, and never says how the call ended:
//
// - A process counts from its first KVM_CREATE_VCPU on, and a process that shares its memory (a
//   vfork() child) is taken for it. To a child that only inherited the descriptors, KVM says EIO.
// - A vCPU is known by its process, its descriptor and its id (/proc/PID/fd). A KVM_CREATE_VCPU
//   makes the supervisor forget the vCPUs with this id that are closed, except those closed in the
//   microseconds before the call. kcmp() finds duplicates of a descriptor; if one has replaced
//   another known vCPU, it may have what either has.
// - KVM may have refused a CPUID table, so a guest is allowed the xfeatures that any table of its
//   vCPU enumerates: never fewer than it has. There are more if tables differ; then KVM decides.
// - A pidfd shows that a process has exited, so that a reused pid is not taken for it.
//
// Not thread-safe. Running out of memory ends the program.
#ifndef XSAVESHIM_TRACKED_H
#define XSAVESHIM_TRACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "xsaveshim/policy.h"
#include "xsaveshim/rate_limit.h"

// Rate-limited events; each kind has its own counter.
enum tracked_event {
	TRACKED_TRIM,
	TRACKED_NOT_WRITABLE,
	TRACKED_EARLIER_CPUID,
	TRACKED_REFUSED,
	TRACKED_LOST,
	TRACKED_EVENTS,
};

struct tracked_vcpu {
	int fd;
	struct vcpu vcpu;     // guest_xcr0: the xfeatures that any of its tables enumerates
	uint64_t latest_xcr0; // those that the latest table enumerates
	uint64_t dropped;     // from the payload that it loaded last
	struct rate_limit rate_limits[TRACKED_EVENTS];
};

struct tracked_process {
	pid_t pid;
	// `xsaveshim status` finds the served processes by it. -1: the supervisor may not write to
	// the process's memory, or has no descriptor left.
	int pidfd;
	struct rate_limit no_access;
	struct tracked_vcpu *vcpus;
	size_t vcpu_count;
};

#define TRACKED_THREADS 4096

struct tracked {
	struct tracked_process **processes; // by pid
	size_t process_count;
	int exits;	 // an epoll descriptor, readable once a process with a pidfd has exited
	int pidfd_limit; // descriptors from here on are kept for other uses
	// The process that a thread was last found in, at index tid % TRACKED_THREADS.
	struct {
		pid_t tid, process;
	} threads[TRACKED_THREADS];
};

// descriptors: the number of descriptors that this process may have.
void tracked_init(struct tracked *tracked, unsigned long descriptors);

// Forgets processes that have exited. To be called before each search, because pids are reused.
void tracked_forget_exited(struct tracked *tracked);

// Returns the thread's process, or the one whose memory it shares: NULL if that has created no vCPU
// or the thread has exited. The pointer is valid until the process is forgotten.
struct tracked_process *tracked_find_process(struct tracked *tracked, pid_t tid);

// The same for a thread that is about to create a vCPU: NULL only if its process is not found.
struct tracked_process *tracked_add_process(struct tracked *tracked, pid_t tid);

void tracked_forget_process(struct tracked *tracked, struct tracked_process *process);

// Forgets the vCPUs with this id that the process has closed. tid is one of its living threads.
void tracked_forget_closed(struct tracked_process *process, pid_t tid, int id);

// Returns the vCPU with this id that the process has as fd; a new one is VCPU_NO_CPUID. tid is one
// of its living threads. The pointer is valid until the next call for the same process.
struct tracked_vcpu *tracked_vcpu(struct tracked_process *process, pid_t tid, int fd, int id);

// Adds the xfeatures that one more table enumerates.
void tracked_add_table(struct tracked_vcpu *vcpu, uint64_t guest_xcr0);

#endif
