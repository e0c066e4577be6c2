// SPDX-License-Identifier: MIT
// The guardian is a small process that acts when the supervisor dies.
//
// After the supervisor's death, a VMM's KVM_SET_XSAVE fails with ENOSYS. If the VMM ignores this
// failure, as QEMU up to 8.1 does, the guest runs on without its saved state. So the guardian
// reports that the supervisor has died.
//
// With XSAVESHIM_REFUSED=report, the guardian exits after this report. The exit closes the last
// copy of the listener, the descriptor at which the kernel's notifications arrive. From then on,
// every ioctl that the supervisor watched fails with ENOSYS.
//
// With XSAVESHIM_REFUSED=abort, the guardian keeps the listener. An owner is a process that has
// created a vCPU. If an owner waits in a watched ioctl when the supervisor dies, or later makes a
// watched ioctl, the guardian ends the owner. But if the ioctl is KVM_CREATE_VCPU, the guardian
// makes the ioctl fail with ENOSYS instead, because no VMM ignores a failed KVM_CREATE_VCPU. If a
// process that is not an owner makes a watched ioctl, this ioctl fails with ENOSYS.
//
// Of the files in another process's /proc directory, the guardian reads only /proc/TID/status,
// because no process can make this read block.
#ifndef XSAVESHIM_GUARDIAN_H
#define XSAVESHIM_GUARDIAN_H

#include <seccomp.h>
#include <sys/types.h>

#include "xsaveshim/settings.h"

// Forks the guardian. Call guardian_start once, after the log is open and while this process has
// only one thread. vmm: the process that executes the VMM. unneeded: a descriptor that the guardian
// closes. If guardian_start fails, the program ends with a message.
void guardian_start(int listener, const struct settings *settings, pid_t vmm, int unneeded);

// Returns a slot: memory in which a thread of the supervisor receives its notifications. Returns
// NULL if all slots are in use. The guardian searches the slots for unanswered notifications, so
// the thread must set a notification's id to 0 after it has answered the notification. Thread-safe.
struct seccomp_notif *guardian_claim_slot(void);
void guardian_return_slot(struct seccomp_notif *slot);

// Returns an array with a bit for each pid: 1 if the process is an owner, that is, has created a
// vCPU. The supervisor keeps the bits up to date.
unsigned char *guardian_owners(void);

// Makes the guardian close its copy of standard error. Call guardian_release_stderr when the
// supervisor has closed standard error.
void guardian_release_stderr(void);

#endif
