// SPDX-License-Identifier: MIT
// The handlers of the watched ioctls. A handler runs before the kernel makes the call.
//
// The handlers follow the same rules as the library (include/xsaveshim/policy.h). But the
// supervisor does not see the result of a call. So the supervisor reports in advance that KVM will
// refuse a payload.
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

// Call handlers_init once, before the first notification. The four arguments must stay valid.
void handlers_init(int listener, const struct settings *settings, struct tracked *tracked,
		   struct xsaveshim_record *record);

// Handles a notification: learns the vCPU's CPUID table, trims the vCPU's payload, or reports. The
// caller must then answer the notification. The kernel makes the call in any case. Thread-safe.
void handle_notification(const struct seccomp_notif *notification);

#endif
