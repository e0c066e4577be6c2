// SPDX-License-Identifier: MIT
// The supervised processes that have created vCPUs, and what the supervisor knows about these
// vCPUs.
//
// The kernel notifies the supervisor before the kernel executes a VMM's ioctl, and never tells the
// supervisor how the ioctl ended. So the supervisor itself must answer the following questions:
//
// - Which process owns the vCPU? KVM accepts an ioctl on a vCPU only from a process that shares
//   memory with the creator of the VM. A process becomes an owner with its first KVM_CREATE_VCPU. A
//   process that shares an owner's memory, such as a vfork() child, belongs to that owner. Any
//   other process has no owner, for example a child that has only inherited an owner's descriptors.
//   If a process without an owner makes an ioctl on a vCPU, KVM fails the ioctl with EIO.
// - Which vCPU is behind a descriptor? The supervisor identifies a vCPU by the owner, by the
//   descriptor, and by the vCPU's id in /proc/PID/fd. A VMM may close a vCPU's descriptor. The
//   kernel may then give the descriptor's number to a vCPU that has the same id in another VM.
//   Before the kernel creates this vCPU, the supervisor sees a KVM_CREATE_VCPU with this id. At
//   this moment, the supervisor forgets each of the owner's vCPUs that has this id and a closed
//   descriptor. The supervisor misses a descriptor that the VMM closes in the microseconds between
//   the supervisor's check and the creation of the vCPU.
// - Is a descriptor a duplicate? kcmp() says whether two descriptors refer to the same open file.
//   With dup2(), a VMM may replace a vCPU's descriptor by a duplicate of another vCPU's descriptor.
//   If both vCPUs have the same id, the supervisor then allows the xfeatures of both.
// - Did KVM accept a vCPU's CPUID table? The supervisor does not know. So the supervisor allows the
//   xfeatures of every CPUID table that the VMM passed for the vCPU. The guest never has more
//   xfeatures than the supervisor allows. If a payload has an allowed xfeature that the guest
//   lacks, KVM decides whether to accept the payload.
// - Has the owner exited, so that another process may have the owner's pid? The supervisor learns
//   of the exit from the owner's pidfd.
//
// All functions except tracked_init are thread-safe, because a lock guards the data. A VMM can
// block a supervisor's thread that accesses the VMM's process. So no function accesses another
// process while the function holds the lock. A caller is a thread that waits in an ioctl for the
// supervisor's answer (remote.h). After an access to a caller's process, a function goes on only if
// the caller still waits, because otherwise another thread may have got the caller's tid. If no
// memory can be allocated, the program ends.
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

// The kinds of events that the supervisor counts for each vCPU. A rate limit (rate_limit.h) decides
// which events the supervisor reports.
enum tracked_event {
	TRACKED_TRIM,
	TRACKED_NOT_WRITABLE,
	TRACKED_EARLIER_CPUID,
	TRACKED_REFUSED,
	TRACKED_LOST,
	TRACKED_EVENTS,
};

struct tracked_vcpu {
	uint64_t serial; // a number that no other tracked vCPU ever has
	int fd;
	struct vcpu vcpu;     // vcpu.guest_xcr0: the xfeatures of all CPUID tables of the vCPU
	uint64_t latest_xcr0; // the xfeatures of the vCPU's latest CPUID table
	uint64_t dropped;     // the xfeatures dropped from the vCPU's latest payload
	struct rate_limit rate_limits[TRACKED_EVENTS];
};

struct tracked_process {
	pid_t pid;
	// pidfd is -1 if the supervisor may not write to the process's memory, or has no descriptor
	// left. `xsaveshim status` reads the fdinfo of the supervisor's pidfds to find the
	// processes that the supervisor serves.
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
	uint64_t serials; // how many serials were given to vCPUs
	int exits;	  // an epoll descriptor: readable if a process with a pidfd has exited
	int pidfd_limit;  // descriptors from this number on are for uses other than pidfds
	// A cache of the threads' owners. The index is a thread's tid modulo TRACKED_THREADS.
	struct {
		pid_t tid;
		pid_t owner;
	} threads[TRACKED_THREADS];
	// Limits the reports that the memory of threads without an owner is not readable.
	struct rate_limit not_readable;
	// A bit for each pid: 1 if the process is an owner. The guardian process (guardian.h) reads
	// owner_bits. owner_bits is NULL if there is no guardian.
	unsigned char *owner_bits;
};

// Initialises *tracked without processes. descriptors: how many descriptors this process may have.
void tracked_init(struct tracked *tracked, unsigned long descriptors);

// Forgets the processes that have exited. Call tracked_forget_exited before each search for an
// owner or a vCPU, because a new process may have the pid of an exited process.
void tracked_forget_exited(struct tracked *tracked);

// Returns the pid of the owner that shares memory with the thread caller->tid, or 0 if there is no
// such owner.
pid_t tracked_owner(struct tracked *tracked, const struct caller *caller);

// Makes the process of the thread caller->tid an owner, unless the thread already has an owner.
// Call tracked_add_owner before the kernel creates a vCPU for the thread. Returns the pid of the
// thread's owner, or 0 if the thread no longer waits for the supervisor's answer.
pid_t tracked_add_owner(struct tracked *tracked, const struct caller *caller);

// Forgets each of the owner's vCPUs that has this id, if the vCPU's descriptor is closed in the
// process of the thread caller->tid.
void tracked_forget_closed(struct tracked *tracked, pid_t owner, const struct caller *caller,
			   int id);

// Takes the lock, and returns the vCPU to which the descriptor fd of the thread caller->tid refers.
// id: the vCPU's id. If the supervisor does not know the vCPU, adds it as a vCPU that has no CPUID
// table yet. The returned pointer is valid until tracked_unlock releases the lock. If the thread no
// longer waits for the supervisor's answer, or if the owner is not tracked, returns NULL and does
// not take the lock.
struct tracked_vcpu *tracked_lock_vcpu(struct tracked *tracked, pid_t owner,
				       const struct caller *caller, int fd, int id);
void tracked_unlock(struct tracked *tracked);

// Adds the xfeatures of one more CPUID table to the vCPU. The calling thread must hold the lock.
void tracked_add_table(struct tracked_vcpu *vcpu, uint64_t guest_xcr0);

// Counts an ioctl that the supervisor could not handle, because the supervisor could not access the
// process that made the ioctl. owner: the pid of this process's owner, or 0 if the process has no
// owner. bits: one bit, a different bit for each kind of ioctl; the first ioctl of each kind is
// always reported (rate_limit.h). Returns how many ioctls have been counted for this owner, or 0 if
// the rate limit forbids a report.
uint32_t tracked_count_not_readable(struct tracked *tracked, pid_t owner, uint64_t bits);

// Returns the number of owners. Sets *pids to an array of the owners' pids. The calling function
// must free the array.
size_t tracked_owners(struct tracked *tracked, pid_t **pids);

#endif
