// SPDX-License-Identifier: MIT
// Creates a small VM to find out two things. Does a payload (an XSAVE state) that KVM saves from
// the VM have xfeatures that the guest lacks? If a payload with an xfeature that the guest lacks is
// loaded into the VM, does the host mode clear the xfeature's bit in the payload's XSTATE_BV?
#ifndef XSAVESHIM_HOST_SELFTEST_H
#define XSAVESHIM_HOST_SELFTEST_H

#include <stdbool.h>
#include <stdint.h>

// One self-test calls KVM_SET_XSAVE twice, and KVM_GET_XSAVE (or KVM_GET_XSAVE2) once. The BPF
// programs count these calls.
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
