// SPDX-License-Identifier: MIT
// What the supervisor does about a watched ioctl before the kernel makes it.
//
// The rules are those of the library (include/xsaveshim/policy.h), but the supervisor does not see
// the result of a call: it reports in advance that KVM will refuse a payload.
#ifndef XSAVESHIM_HANDLERS_H
#define XSAVESHIM_HANDLERS_H

#include <linux/seccomp.h>
#include <sys/types.h>

#include "xsaveshim/settings.h"

// Opens the log, and reports how the VMM was started. Returns the epoll descriptor at which the
// exits of VMMs arrive. To be called once; the caller keeps the settings.
int handlers_init(int listener, const struct settings *settings, pid_t vmm, const char *program,
		  const char *reason);

// Handles a notification: learns the vCPU's CPUID table, or trims its payload, or reports. The
// caller then answers it, and the kernel makes the call whatever has happened here. Thread-safe.
void handle_notification(const struct seccomp_notif *notification);

// To be called when a VMM has exited, and when handlers_timeout() is over. Thread-safe.
void handlers_clean_up(void);

// Returns the milliseconds until handlers_clean_up() is due, or -1. Thread-safe.
int handlers_timeout(void);

#endif
