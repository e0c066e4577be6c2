// SPDX-License-Identifier: MIT
// Judges a pair of hosts: do guests that the one saves load on the other? It judges xfeatures alone,
// for every guest that was shown only xfeatures that both hosts support.
//
// A pure function, thread- and async-signal-safe.
#ifndef XSAVESHIM_PAIR_H
#define XSAVESHIM_PAIR_H

#include <stdbool.h>
#include <stdint.h>

// What `xsaveshim probe` found out about a host.
struct pair_host {
	bool source_known;	   // leaks is known
	bool destination_known;	   // refuses is known
	uint64_t enabled;	   // by its CPU
	uint64_t supported;	   // by its KVM, those that need a permission included
	uint64_t needs_permission; // of the VMM
	uint64_t leaks;		   // into the payload of a guest that does not have them
	uint64_t refuses;	   // from a guest that does not have them, supported or not
};

enum pair_answer { PAIR_YES, PAIR_WITH_XSAVESHIM, PAIR_UNKNOWN };

// The modes that make all of these guests load.
enum pair_by {
	PAIR_BY_LIBRARY = 1,
	PAIR_BY_SUPERVISOR = 2,
	PAIR_BY_HOST_MODE_ON_TO = 4,
	PAIR_BY_HOST_MODE_ON_FROM = 8, // for guests that are saved from then on
};

struct pair_result {
	enum pair_answer answer;
	uint64_t no_if_shown;	   // a guest that was shown one of these does not load
	uint64_t needs_permission; // a guest that was shown one of these loads if its VMM has it
	uint64_t refused;	   // leaked xfeatures that the destination refuses, if known
	bool only_guests_without_xsave; // known to be the only ones that do not load
	unsigned int by;		// enum pair_by
};

struct pair_result pair_judge(struct pair_host from, struct pair_host to);

#endif
