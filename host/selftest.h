// SPDX-License-Identifier: MIT
// Creates a small VM, saves a payload (an XSAVE state) from it, and loads a payload into it. Finds
// out whether these two payloads keep xfeatures that the VM's guest lacks.
#ifndef XSAVESHIM_HOST_SELFTEST_H
#define XSAVESHIM_HOST_SELFTEST_H

#include <stdbool.h>
#include <stdint.h>

// One self-test makes this number of calls of KVM_SET_XSAVE and KVM_GET_XSAVE (or KVM_GET_XSAVE2).
// The BPF programs count these calls.
#define SELFTEST_CALLS 3

struct selftest {
	uint64_t xfeature;  // an xfeature that the guest lacks
	bool cleared;	    // after KVM_SET_XSAVE, the payload's XSTATE_BV lacked `xfeature`
	bool returned;	    // KVM_GET_XSAVE returned an xfeature that the guest lacks
	uint64_t supported; // the xfeatures that KVM supports
	char problem[160];  // why the self-test failed
};

// If the self-test cannot create or use its VM, returns false and sets `problem`.
bool selftest_run(struct selftest *selftest);

#endif
