// SPDX-License-Identifier: MIT
// The interface between the BPF programs and the command that loads them: the command writes the
// settings, the programs write events and counts.
#ifndef XSAVESHIM_HOST_PROGRAMS_H
#define XSAVESHIM_HOST_PROGRAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "xsaveshim/policy.h"

// The 64-byte XSAVE header.
#define HOST_HEADER_SIZE (XSTATE_HEAD_SIZE - XSTATE_BV_OFFSET)

// The kind of the program at the exit.
enum host_exit { HOST_EXIT_FEXIT, HOST_EXIT_KRETPROBE };

// The members before caps stay as they are: an upgrade reads them from the programs that it replaces.
struct host_settings {
	uint32_t trim; // enum trim
	uint32_t exit; // enum host_exit
	bool abort;    // --refused=abort: end the VMM
	struct host_caps caps;
};

enum host_event_kind {
	HOST_EVENT_TRIM,	 // a payload was trimmed, or would have been with trimming on
	HOST_EVENT_NOT_TRIMMED,	 // a payload's memory was not writable
	HOST_EVENT_REFUSED,	 // KVM_SET_XSAVE failed
	HOST_EVENT_XCR0_REFUSED, // KVM_SET_XCRS failed
	HOST_EVENT_LOST,	 // KVM_SET_XCRS enabled an xfeature that was dropped
	HOST_EVENT_KINDS,
};

struct host_event {
	uint32_t kind;
	uint32_t ioctl;
	uint32_t pid;	 // in the initial pid namespace
	int32_t error;	 // REFUSED, XCR0_REFUSED: the call's errno
	uint32_t count;	 // how often this event has happened on this vCPU
	uint32_t mxcsr;	 // REFUSED
	uint64_t cgroup; // the id of the VMM's cgroup v2
	struct vcpu vcpu;
	struct trim_result trim;		// TRIM, NOT_TRIMMED; REFUSED: xstate_bv
	uint64_t xcr0;				// XCR0_REFUSED, LOST
	uint64_t lost;				// LOST
	char comm[16];				// the thread's name
	unsigned char header[HOST_HEADER_SIZE]; // REFUSED
};

// Entries and exits count the calls of KVM_SET_XSAVE, KVM_GET_XSAVE, KVM_GET_XSAVE2 and
// KVM_SET_XCRS. Calls for the vCPU of a probe (shared/probe_vm.h) have counters of their own.
enum host_count {
	HOST_COUNT_ENTRIES,
	HOST_COUNT_MISSED_ENTRIES, // exits of calls whose entry no program saw
	HOST_COUNT_EXITS,
	HOST_COUNT_MISSED_EXITS,
	HOST_COUNT_TRIMMED,
	HOST_COUNT_WOULD_TRIM,
	HOST_COUNT_NOT_TRIMMED,
	HOST_COUNT_REFUSED,
	HOST_COUNT_LOST,
	HOST_COUNT_KILLED,
	HOST_COUNT_LOST_REPORTS, // the ring was full
	HOST_COUNT_PROBE_ENTRIES,
	HOST_COUNT_PROBE_EXITS,
	HOST_COUNTS,
};

#endif
