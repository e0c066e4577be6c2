// SPDX-License-Identifier: MIT
// The supervised processes that have created vCPUs, and the state of these vCPUs.
//
// The kernel notifies the supervisor before it makes a call, and never says how the call ended. So
// these questions need an answer:
//
// - Which process owns the vCPU? KVM serves a vCPU only to processes that share the memory in which
//   the VM was created. A process is an owner from its first KVM_CREATE_VCPU on. A process that
//   shares an owner's memory (a vfork() child) counts as that owner. Any other process, such as a
//   child that has inherited the descriptors, has no owner: KVM answers EIO.
// - Which vCPU is it? A vCPU is known by its owner, its descriptor and its id, which
//   /proc/PID/fd shows. A VMM may close a vCPU, and the kernel may give the number to a vCPU of
//   another VM with the same id. Before that happens, the supervisor sees a KVM_CREATE_VCPU with
//   this id, and forgets the vCPUs that were closed. (It misses a descriptor that the VMM closes in
//   the microseconds between that look and the creation.) kcmp() says whether a descriptor
//   duplicates that of a known vCPU. A duplicate that was put on the number of another known vCPU
//   is allowed what either vCPU is allowed.
// - Did KVM accept the CPUID table? The supervisor does not know, and so allows the xfeatures of
//   every table that the VMM passed for the vCPU. These are never fewer than the guest has. If they
//   are more, KVM decides.
// - Has the owner exited, and does another process have its pid? A pidfd tells.
//
// Thread-safe: a lock guards the memory, and no function looks at another process while it holds
// the lock, because a process can make whoever looks at it wait. A function that has looked at a
// caller's process does nothing if the caller waits no longer. If there is no memory, the program
// ends.
#ifndef XSAVESHIM_TRACKED_H
#define XSAVESHIM_TRACKED_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "remote.h"
#include "xsaveshim/policy.h"
#include "xsaveshim/rate_limit.h"

// The rate-limited events of a vCPU; each has its own counter.
enum tracked_event {
	TRACKED_TRIM,
	TRACKED_NOT_WRITABLE,
	TRACKED_EARLIER_CPUID,
	TRACKED_REFUSED,
	TRACKED_LOST,
	TRACKED_EVENTS,
};

struct tracked_vcpu {
	uint64_t serial; // unique among all vCPUs that were ever tracked
	int fd;
	struct vcpu vcpu;     // guest_xcr0: the xfeatures of all of its CPUID tables
	uint64_t latest_xcr0; // the xfeatures of the latest table
	uint64_t dropped;     // from the latest payload
	struct rate_limit rate_limits[TRACKED_EVENTS];
};

struct tracked_process {
	pid_t pid;
	// -1 if the supervisor may not write to the process's memory, and so cannot serve it, or if
	// it has no descriptor left. `xsaveshim status` finds the processes that a supervisor
	// serves by the fdinfo of its pidfds.
	int pidfd;
	struct rate_limit not_readable;
	struct tracked_vcpu *vcpus;
	size_t vcpu_count;
};

#define TRACKED_THREADS 4096

struct tracked {
	pthread_mutex_t lock;
	struct tracked_process **processes; // sorted by pid
	size_t process_count;
	uint64_t serials; // how many were given out
	int exits;	  // an epoll descriptor: readable if a process with a pidfd has exited
	int pidfd_limit;  // descriptors from this number on are kept for other uses
	// The owner that a thread had last. The index is the tid modulo TRACKED_THREADS.
	struct {
		pid_t tid;
		pid_t owner;
	} threads[TRACKED_THREADS];
	struct rate_limit not_readable; // for callers without an owner
	// A bit for each pid: 1 if it is an owner's. The guardian reads it. NULL: nobody does.
	unsigned char *owner_bits;
};

// Makes an empty tracked. descriptors: how many this process may have.
void tracked_init(struct tracked *tracked, unsigned long descriptors);

// Forgets the processes that have exited. To be called before each search: a new process may have
// the pid of an old one.
void tracked_forget_exited(struct tracked *tracked);

// Returns the pid of the caller's owner, or 0 if it has none.
pid_t tracked_owner(struct tracked *tracked, const struct caller *caller);

// The same for a caller that is about to create a vCPU, whose process becomes an owner. Returns 0
// if the caller waits no longer.
pid_t tracked_add_owner(struct tracked *tracked, const struct caller *caller);

// Forgets the owner's vCPUs with this id whose descriptors the caller's process has closed.
void tracked_forget_closed(struct tracked *tracked, pid_t owner, const struct caller *caller,
			   int id);

// Locks, and returns the owner's vCPU with this id that the caller has as fd; a vCPU that was not
// known is VCPU_NO_CPUID. Returns NULL, without the lock, if the caller waits no longer. The
// pointer is valid until tracked_unlock.
struct tracked_vcpu *tracked_lock_vcpu(struct tracked *tracked, pid_t owner,
				       const struct caller *caller, int fd, int id);
void tracked_unlock(struct tracked *tracked);

// Adds the xfeatures of one more of its CPUID tables. The lock is held.
void tracked_add_table(struct tracked_vcpu *vcpu, uint64_t guest_xcr0);

// Counts a caller whose memory cannot be read. owner may be 0. Returns how many times this has
// happened, or 0 if this time is not to be reported.
uint32_t tracked_count_not_readable(struct tracked *tracked, pid_t owner, uint64_t bits);

// Returns how many owners there are, and their pids in memory that the caller of this frees.
size_t tracked_owners(struct tracked *tracked, pid_t **pids);

#endif
