// SPDX-License-Identifier: MIT
// What is known of each vCPU of a process, by its file descriptor.
//
// Thread- and async-signal-safe without a lock: everything is atomic words, and the kernel itself
// serialises the ioctls of one vCPU. Nothing here fails.
#ifndef XSAVESHIM_VCPUS_H
#define XSAVESHIM_VCPUS_H

#include <stdatomic.h>
#include <stdint.h>

#include "xsaveshim/policy.h"

#define VCPUS_MAX 65536

// The events that are reported at growing intervals (rate_limit.h), each counted for itself.
enum vcpu_event {
	VCPU_EVENT_TRIM,	 // of what the VMM restores
	VCPU_EVENT_TRIM_SAVED,	 // of what the VMM saves
	VCPU_EVENT_REFUSED,	 // KVM_SET_XSAVE
	VCPU_EVENT_XCR0_REFUSED, // KVM_SET_XCRS
	VCPU_EVENT_LOST,
	VCPU_EVENTS,
};

// What only a vCPU has from which something was dropped, or one with an unusual XCR0.
struct vcpu_rest {
	_Atomic uint64_t guest_xcr0;
	_Atomic uint64_t enabled_xcr0;
	_Atomic uint64_t dropped;
	_Atomic uint64_t reported[VCPU_EVENTS];
	_Atomic uint32_t count[VCPU_EVENTS];
};

// All zeroes: every vCPU is unknown. 512 KiB of words, of which only the pages of the descriptors
// in use are ever touched: 512 descriptors a page. The rest stays untouched while nothing is
// dropped.
struct vcpus {
	_Atomic uint64_t words[VCPUS_MAX];
	struct vcpu_rest rest[VCPUS_MAX];
};

// What is known of the vCPU behind fd; VCPU_UNKNOWN for any fd outside the table.
struct vcpu vcpus_get(const struct vcpus *vcpus, int fd);

// Replaces what is known of fd. A descriptor outside the table stays VCPU_UNKNOWN, which has the
// kernel asked at each call.
void vcpus_set(struct vcpus *vcpus, int fd, struct vcpu vcpu);

// A new vCPU: forgets everything about fd, its events included.
void vcpus_create(struct vcpus *vcpus, int fd, int id);

// Counts an event. Returns which time it is, or 0 where this time is not to be reported. bits as in
// rate_limit_allows. A descriptor outside the table shares its counts with the one that has the
// same remainder by VCPUS_MAX.
uint32_t vcpus_count(struct vcpus *vcpus, int fd, enum vcpu_event event, uint64_t bits);

// The xfeatures that were dropped from the payload which the vCPU loaded last. A descriptor outside
// the table has none.
uint64_t vcpus_dropped(const struct vcpus *vcpus, int fd);
void vcpus_set_dropped(struct vcpus *vcpus, int fd, uint64_t dropped);

#endif
