// SPDX-License-Identifier: MIT
// The supervisor's handlers of the ioctls that the supervisor watches. A handler runs before the
// kernel executes the VMM's ioctl.
//
// The handlers follow the same rules as the library (include/xsaveshim/policy.h). But the
// supervisor does not see the result of an ioctl. So the supervisor predicts whether KVM will
// refuse a payload, and reports a predicted refusal.
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

// Call handlers_init once, before the first notification. The listener and the objects behind the
// pointers must stay valid until the supervisor ends.
void handlers_init(int listener, const struct settings *settings, struct tracked *tracked,
		   struct xsaveshim_record *record);

// Handles the ioctl of the notification. For example, trims the payload of a KVM_SET_XSAVE and
// writes a report. The calling function must then answer the notification, so that the kernel
// executes the VMM's ioctl. Thread-safe.
void handle_notification(const struct seccomp_notif *notification);

#endif
