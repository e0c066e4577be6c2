// SPDX-License-Identifier: MIT
// The handlers of the watched ioctls, which run before the kernel makes the call.
//
// They follow the library's rules (include/xsaveshim/policy.h). But the supervisor does not see the
// result of a call: it reports in advance that KVM will refuse a payload.
#ifndef XSAVESHIM_HANDLERS_H
#define XSAVESHIM_HANDLERS_H

#include <seccomp.h>

#include "tracked.h"
#include "xsaveshim/record.h"
#include "xsaveshim/settings.h"

struct call;

struct watched_ioctl {
	unsigned int request;
	const char *name;
	void (*handle)(struct call *call);
};

#define WATCHED 5

extern const struct watched_ioctl watched[WATCHED];

// To be called once, before the first notification. The caller keeps all four.
void handlers_init(int listener, const struct settings *settings, struct tracked *tracked,
		   struct xsaveshim_record *record);

// Handles a notification: learns the vCPU's CPUID table, or trims its payload, or reports. The
// caller then answers it, and the kernel makes the call whatever has happened here. Thread-safe.
void handle_notification(const struct seccomp_notif *notification);

#endif
