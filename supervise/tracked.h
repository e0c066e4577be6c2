// SPDX-License-Identifier: MIT
// What the supervisor knows of the processes with its filter that have vCPUs, and of these vCPUs.
//
// A vCPU is known by its process, its descriptor and its id. The kernel notifies the supervisor
// before it makes a call and never says how the call ended. That raises four questions:
//
// - Whose vCPU is it? KVM serves a vCPU only for the memory that its VM was created in. So a
// process counts from its first
//   KVM_CREATE_VCPU on, and a process that shares its memory (a vfork() child) is taken for it. To
//   any other, such as a child that has inherited the descriptors, KVM will say EIO.
// - Which vCPU is it? The kernel gives its id (/proc/PID/fd). If the VMM closes a vCPU, and the
// number becomes that of another VM's
//   vCPU with the same id, the supervisor has seen the KVM_CREATE_VCPU between the two, and has
//   then forgotten what was closed. (It misses a descriptor that the VMM closes in the few
//   microseconds between that look and the creation.) Whether a descriptor is a duplicate of a
//   known vCPU's, kcmp() says; one that was put over another known vCPU's number may have what
//   either has.
// - Did KVM take its table? The supervisor does not know, so a guest is allowed what any of the
// tables enumerates that the VMM set
//   on the vCPU. That is never less than the guest has. It is more where tables differ; then KVM
//   decides.
// - Has the process exited, and was its pid reused? A pidfd tells.
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

// The events that are reported at growing intervals, each counted for itself.
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
	struct vcpu vcpu;     // guest_xcr0: what any of its tables enumerates
	uint64_t latest_xcr0; // what the last one enumerates
	uint64_t dropped;     // from the payload that it was given last
	struct rate_limit rate_limits[TRACKED_EVENTS];
};

struct tracked_process {
	pid_t pid;
	// `xsaveshim status` reads from its fdinfo which processes a supervisor serves. -1 where
	// the supervisor may not write to the process's memory, so that it serves nothing, and
	// where it has no descriptor left.
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
	// Of which process a thread was the last time, at the place of its tid modulo
	// TRACKED_THREADS.
	struct {
		pid_t tid;
		pid_t process;
	} threads[TRACKED_THREADS];
};

// Makes an empty tracked. descriptors: how many this process may have.
void tracked_init(struct tracked *tracked, unsigned long descriptors);

// Forgets the processes that have exited. To be called before each search: a new process may have
// the pid of an old one.
void tracked_forget_exited(struct tracked *tracked);

// Returns the process that a thread is of, or whose memory it shares; NULL where that has created
// no vCPU, and where the thread has exited. The pointer is valid until the process is forgotten.
struct tracked_process *tracked_find_process(struct tracked *tracked, pid_t tid);

// The same for a thread that is about to create a vCPU. NULL only where its process cannot be found
// out.
struct tracked_process *tracked_add_process(struct tracked *tracked, pid_t tid);

void tracked_forget_process(struct tracked *tracked, struct tracked_process *process);

// Forgets the vCPUs with this id that the process has closed. tid is one of its living threads.
void tracked_forget_closed(struct tracked_process *process, pid_t tid, int id);

// Returns the vCPU with this id that a living thread of the process has as fd. One that is not
// known is VCPU_NO_CPUID. The pointer is valid until the next call for the same process.
struct tracked_vcpu *tracked_vcpu(struct tracked_process *process, pid_t tid, int fd, int id);

// Adds what one more of its tables enumerates.
void tracked_add_table(struct tracked_vcpu *vcpu, uint64_t guest_xcr0);

#endif
