// SPDX-License-Identifier: MIT
// What is known of each vCPU of this process, by its file descriptor.
//
// All functions are thread- and async-signal-safe without a lock: they access atomic words, and the
// kernel serialises the ioctls of one vCPU. None fails.
#ifndef XSAVESHIM_VCPUS_H
#define XSAVESHIM_VCPUS_H

#include <stdatomic.h>
#include <stdint.h>

#include "xsaveshim/policy.h"

#define VCPUS_MAX 65536

// The events that are rate-limited (rate_limit.h). Each has its own counter.
enum vcpu_event {
	VCPU_EVENT_TRIM,	 // a payload that the VMM restores
	VCPU_EVENT_TRIM_SAVED,	 // a payload that the VMM saves
	VCPU_EVENT_REFUSED,	 // KVM_SET_XSAVE
	VCPU_EVENT_XCR0_REFUSED, // KVM_SET_XCRS
	VCPU_EVENT_LOST,
	VCPU_EVENTS,
};

// Only used for a vCPU whose payload was trimmed, or whose XCR0 does not fit into its word.
struct vcpu_details {
	_Atomic uint64_t guest_xcr0;
	_Atomic uint64_t enabled_xcr0;
	_Atomic uint64_t dropped;
	_Atomic uint64_t reported[VCPU_EVENTS];
	_Atomic uint32_t count[VCPU_EVENTS];
};

// All zeroes: every vCPU is unknown. The words take 512 KiB, of which only the pages of descriptors
// in use are touched, 512 descriptors a page. The details are only touched when they are used.
struct vcpus {
	_Atomic uint64_t words[VCPUS_MAX];
	struct vcpu_details details[VCPUS_MAX];
};

// Returns what is known of the vCPU behind fd: VCPU_UNKNOWN if fd is not below VCPUS_MAX.
struct vcpu vcpus_get(const struct vcpus *vcpus, int fd);

// Replaces what is known of fd. Does nothing if fd is not below VCPUS_MAX: such a vCPU stays
// VCPU_UNKNOWN, so that KVM is queried at each call.
void vcpus_set(struct vcpus *vcpus, int fd, struct vcpu vcpu);

// Notes that fd is a new vCPU: forgets what was known of fd, its events included.
void vcpus_create(struct vcpus *vcpus, int fd, int id);

// Counts an event of the vCPU. bits: as in rate_limit_allows. Returns the number of times that the
// event has happened, or 0 if this time is not to be reported. A descriptor that is not below
// VCPUS_MAX shares its counters with another one.
uint32_t vcpus_count(struct vcpus *vcpus, int fd, enum vcpu_event event, uint64_t bits);

// Returns the xfeatures that were dropped from the last payload: 0 if fd is not below VCPUS_MAX.
uint64_t vcpus_dropped(const struct vcpus *vcpus, int fd);
void vcpus_set_dropped(struct vcpus *vcpus, int fd, uint64_t dropped);

#endif
