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

// The descriptors that may have a slot, and the slots. KVM allows 4,096 vCPUs in a VM.
#define VCPUS_MAX 65536
#define VCPUS_SLOTS 4096

// The events that are rate-limited (rate_limit.h). Each has its own counter.
enum vcpu_event {
	VCPU_EVENT_TRIM,	 // a payload that the VMM restores
	VCPU_EVENT_TRIM_SAVED,	 // a payload that the VMM saves
	VCPU_EVENT_REFUSED,	 // KVM_SET_XSAVE
	VCPU_EVENT_XCR0_REFUSED, // KVM_SET_XCRS
	VCPU_EVENT_LOST,
	VCPU_EVENT_REFUSED_STATE, // any other call with a vCPU's state
	VCPU_EVENTS,
};

// An unusual XCR0 of one vCPU, and the history of its events.
struct vcpu_slot {
	_Atomic uint64_t guest_xcr0; // if it does not fit into 46 bits, or with an enabled XCR0
	_Atomic uint64_t enabled_xcr0;
	_Atomic uint64_t dropped;
	_Atomic uint64_t reported[VCPU_EVENTS];
	_Atomic uint32_t count[VCPU_EVENTS];
};

// All zeroes: every vCPU is unknown. It takes 544 KiB, of which only the pages in use are touched. A
// descriptor gets a slot with its first vcpus_set or vcpus_create, and keeps it: close(2) is not
// seen, and the number may become another vCPU's.
struct vcpus {
	_Atomic uint16_t slot_of[VCPUS_MAX]; // by descriptor; the slot plus one, 0: none
	_Atomic unsigned int slots_given;
	_Atomic uint64_t
		words[VCPUS_SLOTS]; // knowledge, id, and a guest XCR0 that fits into 46 bits
	struct vcpu_slot slots[VCPUS_SLOTS]; // not touched while nothing happens to a vCPU
};

// Returns what is known of the vCPU behind fd: VCPU_UNKNOWN if fd has no slot.
struct vcpu vcpus_get(const struct vcpus *vcpus, int fd);

// Replaces what is known of fd. Does nothing if no slot is left, or if fd is not below VCPUS_MAX:
// such a vCPU stays VCPU_UNKNOWN, so that KVM is queried at each call.
void vcpus_set(struct vcpus *vcpus, int fd, struct vcpu vcpu);

// Notes that fd is a new vCPU: forgets what was known of fd, its events included.
void vcpus_create(struct vcpus *vcpus, int fd, int id);

// Counts an event of the vCPU. bits: as in rate_limit_allows. Returns the number of times that the
// event has happened, or 0 if this time is not to be reported. A descriptor without a slot
// may share its counters with another one.
uint32_t vcpus_count(struct vcpus *vcpus, int fd, enum vcpu_event event, uint64_t bits);

// Returns the xfeatures that were dropped from the payload that the vCPU loaded last: 0 if fd has no
// slot.
uint64_t vcpus_dropped(const struct vcpus *vcpus, int fd);
void vcpus_set_dropped(struct vcpus *vcpus, int fd, uint64_t dropped);

#endif
