// SPDX-License-Identifier: MIT
// A table of this process's vCPUs. The file descriptor of a vCPU is the key.
//
// All functions are thread- and async-signal-safe without a lock, because they access only atomic
// words. If two threads use one vCPU at the same time, the table may lose the change of one thread.
// A VMM has no reason to do this, because the kernel serialises the ioctls of a vCPU.
#ifndef XSAVESHIM_VCPUS_H
#define XSAVESHIM_VCPUS_H

#include <stdatomic.h>
#include <stdint.h>

#include "xsaveshim/policy.h"

// The table has VCPUS_SLOTS slots, one for each vCPU: KVM allows at most 4096 vCPUs in a VM. A vCPU
// can have a slot only if its descriptor is below VCPUS_MAX.
#define VCPUS_MAX 65536
#define VCPUS_SLOTS 4096

// The rate-limited events of a vCPU (rate_limit.h).
enum vcpu_event {
	VCPU_EVENT_TRIM,	 // a restored payload has xfeatures that the guest lacks
	VCPU_EVENT_TRIM_SAVED,	 // a saved payload has xfeatures that the guest lacks
	VCPU_EVENT_REFUSED,	 // KVM refused KVM_SET_XSAVE
	VCPU_EVENT_XCR0_REFUSED, // KVM refused KVM_SET_XCRS
	VCPU_EVENT_LOST,
	VCPU_EVENT_REFUSED_STATE, // KVM refused vCPU state that is neither a payload nor an XCR0
	VCPU_EVENTS,
};

// The history of one vCPU's events. guest_xcr0 and enabled_xcr0 (struct vcpu) are stored here only
// if they do not fit into the vCPU's element of vcpus.words.
struct vcpu_slot {
	_Atomic uint64_t guest_xcr0;
	_Atomic uint64_t enabled_xcr0;
	_Atomic uint64_t dropped;
	_Atomic uint64_t reported[VCPU_EVENTS];
	_Atomic uint32_t count[VCPU_EVENTS];
};

// If a struct vcpus is all zeroes, no descriptor has a slot. The struct takes 544 KiB, but the
// functions touch only the memory pages that they need.
//
// The first vcpus_set or vcpus_create for a descriptor gives the descriptor a slot. The
// descriptor's number keeps the slot after close(2), because the library does not see close(2). If
// the kernel later gives the number to another vCPU, this vCPU gets the same slot.
struct vcpus {
	// slot_of[fd] is 0 if fd has no slot. Otherwise, the low 15 bits are the slot's index plus
	// one, and the highest bit is 1 if the slot has a history of events.
	_Atomic uint16_t slot_of[VCPUS_MAX];
	_Atomic unsigned int slots_given;

	// For each slot, the fields knowledge, id and guest_xcr0 of the vCPU's struct vcpu. An
	// element has space for 46 bits of guest_xcr0, and none for enabled_xcr0.
	_Atomic uint64_t words[VCPUS_SLOTS];

	// The functions touch an element of slots only if the vCPU has had an event, or if
	// guest_xcr0 and enabled_xcr0 do not fit into the vCPU's element of words.
	struct vcpu_slot slots[VCPUS_SLOTS];
};

// Returns what the table says about the vCPU behind fd. If fd has no slot, the returned knowledge
// is VCPU_UNKNOWN.
struct vcpu vcpus_get(const struct vcpus *vcpus, int fd);

// Changes what the table says about the vCPU behind fd. Does nothing if fd has no slot and cannot
// get one. A vCPU without a slot stays VCPU_UNKNOWN, so the library queries KVM for the CPUID table
// at each KVM_SET_XSAVE of this vCPU.
void vcpus_set(struct vcpus *vcpus, int fd, struct vcpu vcpu);

// Notes that fd is a new vCPU with this id. If an earlier vCPU had the same fd, forgets the earlier
// vCPU and its events.
void vcpus_create(struct vcpus *vcpus, int fd, int id);

// Counts an event of the vCPU. bits: a bit for each thing that the event is about, for example for
// each dropped xfeature. Returns how often the event has happened, or 0 if the rate limit forbids a
// report. If fd has no slot, the vCPU may share its counters with another vCPU.
uint32_t vcpus_count(struct vcpus *vcpus, int fd, enum vcpu_event event, uint64_t bits);

// Returns the xfeatures that the library dropped from the latest payload that the VMM loaded into
// the vCPU, or 0 if fd has no slot.
uint64_t vcpus_dropped(const struct vcpus *vcpus, int fd);
void vcpus_set_dropped(struct vcpus *vcpus, int fd, uint64_t dropped);

#endif
