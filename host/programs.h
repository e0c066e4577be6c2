// SPDX-License-Identifier: MIT
// The interface between the host mode's BPF programs and the command `xsaveshim host`. The command
// loads the programs and writes their settings. The programs write events and counts.
#ifndef XSAVESHIM_HOST_PROGRAMS_H
#define XSAVESHIM_HOST_PROGRAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "xsaveshim/policy.h"

// The size of the XSAVE header: 64 bytes.
#define HOST_HEADER_SIZE (XSTATE_HEAD_SIZE - XSTATE_BV_OFFSET)

// The type of the BPF program at the exit of kvm_arch_vcpu_ioctl().
enum host_exit { HOST_EXIT_FEXIT, HOST_EXIT_KRETPROBE };

// The members before `caps` must never change, because a new version of xsaveshim reads them from
// the settings of the old version's programs.
struct host_settings {
	uint32_t trim; // enum trim
	uint32_t exit; // enum host_exit
	bool abort;    // --refused=abort: kill a VMM after a refused call or a loss of state
	struct host_caps caps;
	uint64_t generation; // the number of this set of programs: see HOST_COUNT_GENERATION

	// The limits for each group. A group is all processes of one user, service or VM.
	uint32_t group_vcpus;	// how many entries of the BPF map vcpu_states the group may use
	uint32_t group_reports; // how many reports of the group may wait in the ring buffer
};

enum host_event_kind {
	HOST_EVENT_TRIM,	 // a program trimmed a payload, or --trim forbade the trim
	HOST_EVENT_NOT_TRIMMED,	 // the programs failed to trim a payload
	HOST_EVENT_REFUSED,	 // KVM_SET_XSAVE failed
	HOST_EVENT_XCR0_REFUSED, // KVM_SET_XCRS failed
	HOST_EVENT_LOST,	 // KVM_SET_XCRS enabled an xfeature that a program had dropped
	HOST_EVENT_KINDS,
};

#define HOST_COMMAND_LINE_SIZE 256

struct host_event {
	// A comment such as REFUSED names the kind of event (HOST_EVENT_REFUSED) that uses the
	// member.
	uint32_t kind;
	uint32_t ioctl;
	uint32_t pid;	 // the VMM's pid in the initial pid namespace
	int32_t error;	 // REFUSED, XCR0_REFUSED: the call's errno
	uint32_t count;	 // how often the vCPU has had this kind of event
	uint32_t mxcsr;	 // REFUSED
	uint64_t cgroup; // the id of the VMM's cgroup (version 2)
	struct vcpu vcpu;
	struct trim_result trim;		   // TRIM, NOT_TRIMMED; REFUSED uses xstate_bv only
	uint64_t xcr0;				   // XCR0_REFUSED, LOST
	uint64_t lost;				   // LOST
	uint64_t time;				   // ns from boot to the event
	uint64_t started;			   // ns from boot to the start of the VMM
	uint32_t command_line_size;		   // 0: command_line could not be read
	char comm[16];				   // the thread's name
	char command_line[HOST_COMMAND_LINE_SIZE]; // the beginning of the VMM's command line
	unsigned char header[HOST_HEADER_SIZE];	   // REFUSED
};

// The programs count the entries and the exits of the ioctls KVM_SET_XSAVE, KVM_GET_XSAVE,
// KVM_GET_XSAVE2 and KVM_SET_XCRS. Calls for a probe VM (shared/probe_vm.h) have separate counts.
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
	HOST_COUNT_LOST_REPORTS, // reports that found no place in the ring buffer
	HOST_COUNT_UNTRACKED,	 // events of vCPUs that have no entry in the BPF map vcpu_states
	HOST_COUNT_UNMARKED,	 // calls that have no entry in the BPF map marks
	HOST_COUNT_PROBE_ENTRIES,
	HOST_COUNT_PROBE_EXITS,
	// This element is not a count, but the number (host_settings.generation) of the set of BPF
	// programs that counts and reports. While two sets of programs share their maps, the other
	// set neither counts nor reports.
	HOST_COUNT_GENERATION,
	HOST_COUNTS,
};

#endif
