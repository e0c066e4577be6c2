// SPDX-License-Identifier: MIT
// The guardian: a small process beside the supervisor, which acts if the supervisor dies.
//
// A VMM may ignore that KVM_SET_XSAVE fails (QEMU up to 8.1 does), and the guest then runs on
// without its state. So the guardian reports that the supervisor has died. With
// XSAVESHIM_REFUSED=report it then exits: once its copy of the listener is closed, every watched
// call fails with ENOSYS. With abort it keeps the listener, and ends each owner whose call the
// supervisor was handling or that makes another watched call for a vCPU. All other watched calls
// fail with ENOSYS. So does KVM_CREATE_VCPU, and no VMM ignores that.
//
// The guardian looks at no process except in /proc/TID/status, so that no process can hold it up.
#ifndef XSAVESHIM_GUARDIAN_H
#define XSAVESHIM_GUARDIAN_H

#include <seccomp.h>
#include <sys/types.h>

#include "xsaveshim/settings.h"

// Forks the guardian, which closes the descriptor unneeded. To be called once, while this process
// has one thread and an open log. vmm: the process that was started. Ends the program with a
// message if it fails.
void guardian_start(int listener, const struct settings *settings, pid_t vmm, int unneeded);

// Returns the memory in which a thread of the supervisor receives its notifications, or NULL if all
// slots are in use. The guardian finds there the notifications that the supervisor has not
// answered. Whoever has answered one sets its id to 0. Thread-safe.
struct seccomp_notif *guardian_claim_slot(void);
void guardian_return_slot(struct seccomp_notif *slot);

// The owners, as a bit for each pid, which the supervisor keeps up to date.
unsigned char *guardian_owners(void);

// Makes the guardian close its copy of standard error.
void guardian_release_stderr(void);

#endif
