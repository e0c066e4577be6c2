// SPDX-License-Identifier: MIT
// Judges a pair of hosts: if the first host saves a guest, can the second host load the guest? The
// answer considers only what each host does with xfeatures, and no other difference between the
// hosts. The answer holds for guests whose CPUID shows only xfeatures that both hosts support.
//
// pair_judge is pure, so it is thread- and async-signal-safe.
#ifndef XSAVESHIM_PAIR_H
#define XSAVESHIM_PAIR_H

#include <stdbool.h>
#include <stdint.h>

// The results of `xsaveshim probe` on a host. Each uint64_t is a mask of xfeatures.
struct pair_host {
	bool source_known;	   // true if the fields leaks and loses are known
	bool destination_known;	   // true if the fields refuses and supported are known
	uint64_t enabled;	   // xfeatures that the kernel has enabled in the host's XCR0
	uint64_t supported;	   // xfeatures that KVM supports, even those in needs_permission
	uint64_t needs_permission; // xfeatures that need arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM)
	uint64_t leaks;		   // xfeatures that KVM saves for guests that lack them
	uint64_t loses;		   // x87 and SSE if KVM does not save them for guests without XSAVE
	uint64_t refuses;	   // xfeatures that KVM refuses to load for guests that lack them
};

enum pair_answer { PAIR_YES, PAIR_WITH_XSAVESHIM, PAIR_UNKNOWN };

// The modes of xsaveshim that let the second host load the first host's guests.
enum pair_by {
	PAIR_BY_LIBRARY = 1,
	PAIR_BY_SUPERVISOR = 2,
	PAIR_BY_HOST_MODE_ON_TO = 4,
	PAIR_BY_HOST_MODE_ON_FROM = 8, // the host mode must be active when the first host saves
};

struct pair_result {
	enum pair_answer answer;
	// If a guest's CPUID shows one of these xfeatures, the second host cannot load the guest.
	uint64_t no_if_shown;
	// If a guest's CPUID shows one of these xfeatures, the guest loads only under a VMM that
	// has the permission to use the xfeature (see pair_host.needs_permission).
	uint64_t needs_permission;
	// x87 and SSE if a guest without XSAVE loses them when the first host saves the guest.
	// xsaveshim cannot prevent this loss. 0 if the first host's source_known is false.
	uint64_t lost_when_saved;
	// The xfeatures that the first host leaks and the second host refuses. 0 if the first
	// host's source_known is false.
	uint64_t refused;
	// True if pair_judge knows that only guests without XSAVE need xsaveshim.
	bool only_guests_without_xsave;
	unsigned int by; // a mask of enum pair_by
};

struct pair_result pair_judge(struct pair_host from, struct pair_host to);

#endif
