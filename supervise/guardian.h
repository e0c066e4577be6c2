// SPDX-License-Identifier: MIT
// The guardian: a small process beside the supervisor, which acts if the supervisor dies.
//
// A VMM may ignore that KVM_SET_XSAVE fails, as QEMU up to 8.1 does. The guest then runs on without
// its state. So the guardian reports that the supervisor has died.
//
// With XSAVESHIM_REFUSED=report, the guardian then exits. The exit closes the last copy of the
// listener, so that every watched call fails with ENOSYS.
//
// With XSAVESHIM_REFUSED=abort, the guardian keeps the listener. The guardian ends each owner whose
// call the supervisor was handling, and each owner that makes another watched call for a vCPU.
// Every other watched call fails with ENOSYS. KVM_CREATE_VCPU also fails with ENOSYS, but no VMM
// ignores that KVM_CREATE_VCPU fails.
//
// The guardian reads nothing of another process except /proc/TID/status, so that no process can
// hold the guardian up.
#ifndef XSAVESHIM_GUARDIAN_H
#define XSAVESHIM_GUARDIAN_H

#include <seccomp.h>
#include <sys/types.h>

#include "xsaveshim/settings.h"

// Forks the guardian. Call guardian_start once, while this process has one thread and an open log.
// vmm: the process that executes the VMM. unneeded: a descriptor that the guardian closes. If
// guardian_start fails, the program ends with a message.
void guardian_start(int listener, const struct settings *settings, pid_t vmm, int unneeded);

// Returns a slot: memory in which a thread of the supervisor receives its notifications. Returns
// NULL if all slots are in use. The guardian finds unanswered notifications in the slots, so the
// thread sets a notification's id to 0 after answering. Thread-safe.
struct seccomp_notif *guardian_claim_slot(void);
void guardian_return_slot(struct seccomp_notif *slot);

// Returns the memory that has a bit for each pid: 1 if the process is an owner. The supervisor
// keeps the bits up to date.
unsigned char *guardian_owners(void);

// Makes the guardian close the guardian's copy of standard error.
void guardian_release_stderr(void);

#endif
