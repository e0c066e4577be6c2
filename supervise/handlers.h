// SPDX-License-Identifier: MIT
// Handles each watched ioctl before the kernel makes it, by the rules in xsaveshim/policy.h. The
// supervisor does not see the result of a call: it foresees that KVM will refuse a payload.
#ifndef XSAVESHIM_HANDLERS_H
#define XSAVESHIM_HANDLERS_H

#include <linux/seccomp.h>
#include <sys/types.h>

#include "xsaveshim/settings.h"

// Opens the log, and reports how the VMM was started. Returns an epoll descriptor that is readable
// if a VMM has exited. To be called once; the caller keeps the settings.
int handlers_init(int listener, const struct settings *settings, pid_t vmm, const char *program,
		  const char *reason);

// Learns the vCPU's CPUID table, or trims its payload, or reports. The caller then answers the
// notification, and the kernel makes the call in any case. Thread-safe.
void handle_notification(const struct seccomp_notif *notification);

// To be called when a VMM has exited, and when handlers_timeout() is over. Thread-safe.
void handlers_clean_up(void);

// Returns the milliseconds until handlers_clean_up() is due, or -1. Thread-safe.
int handlers_timeout(void);

#endif
