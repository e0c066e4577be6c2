// SPDX-License-Identifier: MIT
// What the supervisor knows of the vCPUs of the processes that it watches.
//
// A vCPU is known by its process, its descriptor and its id. The kernel tells the supervisor about calls
// before they are made and never how they ended, so that three things take some thought:
//
// - Which vCPU is it? The id comes from the kernel with each call (/proc/PID/fd). A number that is given to
//   another vCPU with the same id, one of another VM, is noticed because KVM_CREATE_VCPU is told as well:
//   whatever was known of that id and is closed by then is forgotten. (Left over: a descriptor that is closed
//   in the few microseconds between that look and the creation.) A duplicate of a known vCPU's descriptor is
//   found by asking the kernel whether they are the same file.
// - Did its KVM_SET_CPUID2 succeed? Unknown, so a guest is allowed what any table that was set since the vCPU
//   was created enumerates: never less than it has. Where two tables differ this may be more, and KVM has the
//   last word.
// - Has the process gone, and is its number another's? A pidfd tells.
//
// Not thread-safe. Running out of memory ends the program.
#ifndef XSAVESHIM_TRACKED_H
#define XSAVESHIM_TRACKED_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "xsaveshim/vcpus.h"

struct tracked_process {
	pid_t pid;
	int pidfd;
};

struct tracked_vcpu {
	pid_t process;
	int fd;
	struct vcpu vcpu;		// guest_xcr0: of all tables
	uint64_t latest_xcr0;		// of the last one
};

struct tracked {
	struct tracked_process *processes;
	size_t process_count;
	struct tracked_vcpu *vcpus;
	size_t vcpu_count;
};

// The process of a thread, which is tracked from then on. -1 with errno set where it has gone or cannot be
// looked at.
pid_t tracked_process(struct tracked *tracked, pid_t tid);

// Ends a process that is tracked, unless it has ended.
void tracked_kill_process(const struct tracked *tracked, pid_t pid);

// Forgets a process that has ended, by its place in processes.
void tracked_forget_process(struct tracked *tracked, size_t index);

// Forgets vCPUs with this id that the process, of which tid is a living thread, has closed.
void tracked_forget_closed(struct tracked *tracked, pid_t process, pid_t tid, int id);

// The vCPU that a living thread of the process calls fd, and which has this id; NULL: not known. Good until
// the next call with the same tracked.
struct tracked_vcpu *tracked_find(const struct tracked *tracked, pid_t process, pid_t tid, int fd, int id);

// The same, added if it is not known, with what another table enumerates.
struct tracked_vcpu *tracked_learn(struct tracked *tracked, pid_t process, pid_t tid, int fd, int id,
				   uint64_t guest_xcr0);

// What every vCPU that is known has, by the last table that was set.
uint64_t tracked_common_xcr0(const struct tracked *tracked);

#endif
