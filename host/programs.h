// SPDX-License-Identifier: MIT
// What the BPF programs and the command that loads them tell each other: the settings one way,
// events and counts the other.
#ifndef XSAVESHIM_HOST_PROGRAMS_H
#define XSAVESHIM_HOST_PROGRAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "xsaveshim/policy.h"

// The bytes of a payload from XSTATE_BV on that a refusal is worked out from: the 64-byte XSAVE
// header.
#define HOST_HEADER_SIZE (XSTATE_HEAD_SIZE - XSTATE_BV_OFFSET)

// How the programs are attached to the exit.
enum host_exit { HOST_EXIT_FEXIT, HOST_EXIT_KRETPROBE };

struct host_settings {
	uint32_t trim; // enum trim
	uint32_t exit; // enum host_exit
	bool abort;    // a refusal ends the VMM
};

enum host_event_kind {
	HOST_EVENT_TRIM,	 // a payload was trimmed, or with trimming off would have been
	HOST_EVENT_NOT_TRIMMED,	 // its memory could not be read or written at that moment
	HOST_EVENT_REFUSED,	 // KVM_SET_XSAVE failed
	HOST_EVENT_XCR0_REFUSED, // KVM_SET_XCRS failed
	HOST_EVENT_LOST,	 // KVM_SET_XCRS shows that the guest uses what was dropped
	HOST_EVENT_KINDS,
};

struct host_event {
	uint32_t kind;
	uint32_t ioctl;
	uint32_t pid;	 // as the initial pid namespace has it
	int32_t error;	 // REFUSED, XCR0_REFUSED: the call's errno
	uint32_t count;	 // which time of this event on this vCPU it is
	uint32_t mxcsr;	 // REFUSED
	uint64_t cgroup; // cgroup v2's id of the VMM's
	struct vcpu vcpu;
	struct trim_result trim;		// TRIM, NOT_TRIMMED; REFUSED: xstate_bv
	uint64_t xcr0;				// XCR0_REFUSED, LOST
	uint64_t lost;				// LOST
	char comm[16];				// the thread's name
	unsigned char header[HOST_HEADER_SIZE]; // REFUSED
};

// Calls that are watched: KVM_SET_XSAVE, KVM_GET_XSAVE, KVM_GET_XSAVE2, KVM_SET_XCRS. Those on a
// vCPU that only asks (below) are counted apart.
enum host_count {
	HOST_COUNT_ENTRIES,
	HOST_COUNT_EXITS,
	HOST_COUNT_TRIMMED,
	HOST_COUNT_WOULD_TRIM,
	HOST_COUNT_NOT_TRIMMED,
	HOST_COUNT_REFUSED,
	HOST_COUNT_LOST,
	HOST_COUNT_KILLED,
	HOST_COUNT_LOST_REPORTS, // nobody read the reports, and the ring was full
	HOST_COUNT_PROBE_ENTRIES,
	HOST_COUNT_PROBE_EXITS,
	HOST_COUNTS,
};

#endif
