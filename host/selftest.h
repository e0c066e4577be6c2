// SPDX-License-Identifier: MIT
// Runs a small VM, and finds out what KVM does with xfeatures that the VM's guest lacks.
#ifndef XSAVESHIM_HOST_SELFTEST_H
#define XSAVESHIM_HOST_SELFTEST_H

#include <stdbool.h>
#include <stdint.h>

// The number of watched calls in one self-test.
#define SELFTEST_CALLS 3

struct selftest {
	uint64_t xfeature;  // an xfeature that the guest lacks
	bool cleared;	    // the xfeature was missing from a payload after the VM loaded it
	bool returned;	    // KVM_GET_XSAVE returned an xfeature that the guest lacks
	uint64_t supported; // the xfeatures that KVM supports
	char problem[160];  // why the self-test failed
};

// Returns false, and sets the problem, if the VM could not be run.
bool selftest_run(struct selftest *selftest);

#endif
