// SPDX-License-Identifier: MIT
// What KVM does with what a guest does not have, seen with a VM of our own that is gone afterwards.
#ifndef XSAVESHIM_HOST_SELFTEST_H
#define XSAVESHIM_HOST_SELFTEST_H

#include <stdbool.h>
#include <stdint.h>

// How many calls of each self-test the BPF programs count.
#define SELFTEST_CALLS 3

struct selftest {
	uint64_t xfeature;  // what the guest lacks
	bool cleared;	    // it was cleared from the payload that was loaded
	bool returned;	    // KVM_GET_XSAVE returned something that the guest lacks
	uint64_t supported; // the xfeatures that KVM supports
	char problem[160];  // where KVM could not be asked: why
};

// False where KVM could not be asked.
bool selftest_run(struct selftest *selftest);

#endif
