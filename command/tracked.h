// SPDX-License-Identifier: MIT
// What the supervisor knows of the vCPUs of the processes with its filter.
//
// A vCPU is known by its process, its descriptor and its id. The kernel notifies the supervisor before it makes a call and never
// says how the call ended. That raises three questions:
//
// - Which vCPU is it? The kernel gives its id (/proc/PID/fd). If the VMM closes a vCPU, and the number becomes that of another VM's
//   vCPU with the same id, the supervisor has seen the KVM_CREATE_VCPU between the two, and has then forgotten what was closed. (It
//   misses a descriptor that the VMM closes in the few microseconds between that look and the creation.) Whether a descriptor is
//   a duplicate of a known vCPU's, kcmp() says.
// - Did KVM take its table? The supervisor does not know, so a guest is allowed what any of the tables enumerates that the VMM set
//   on the vCPU. That is never less than the guest has. It is more where tables differ; then KVM decides.
// - Has the process exited, and was its pid reused? A pidfd tells.
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
	int pidfd; // `xsaveshim status` reads from its fdinfo which processes a supervisor serves
};

struct tracked_vcpu {
	pid_t process;
	int fd;
	struct vcpu vcpu;     // guest_xcr0: what any of its tables enumerates
	uint64_t latest_xcr0; // what the last one enumerates
};

struct tracked {
	struct tracked_process *processes;
	size_t process_count;
	struct tracked_vcpu *vcpus;
	size_t vcpu_count;
};

// Returns the process of a thread and tracks it from then on. -1 with errno set where the thread has exited, or where this process
// may not access it.
pid_t tracked_process(struct tracked *tracked, pid_t tid);

// Kills a tracked process, unless it has exited.
void tracked_kill_process(const struct tracked *tracked, pid_t pid);

// Forgets a process that has exited. index is its place in processes.
void tracked_forget_process(struct tracked *tracked, size_t index);

// Forgets the vCPUs with this id that the process has closed. tid is one of its living threads.
void tracked_forget_closed(struct tracked *tracked, pid_t process, pid_t tid, int id);

// Returns the vCPU with this id that a living thread of the process has as fd, or NULL if none is known. The pointer is valid until
// the next call with the same tracked.
struct tracked_vcpu *tracked_find(const struct tracked *tracked, pid_t process, pid_t tid, int fd, int id);

// The same, but adds a vCPU that is not known, and adds what one more table enumerates.
struct tracked_vcpu *tracked_add_table(struct tracked *tracked, pid_t process, pid_t tid, int fd, int id,
				       uint64_t guest_xcr0);

// What the latest tables of all known vCPUs enumerate in common.
uint64_t tracked_common_xcr0(const struct tracked *tracked);

#endif
