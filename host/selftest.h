// SPDX-License-Identifier: MIT
// Runs a small VM, and finds out whether its payloads keep xfeatures that the VM's guest lacks.
#ifndef XSAVESHIM_HOST_SELFTEST_H
#define XSAVESHIM_HOST_SELFTEST_H

#include <stdbool.h>
#include <stdint.h>

// One self-test makes this number of calls that the BPF programs watch.
#define SELFTEST_CALLS 3

struct selftest {
	uint64_t xfeature;  // an xfeature that the guest lacks
	bool cleared;	    // the payload had lost the xfeature after the VM loaded the payload
	bool returned;	    // KVM_GET_XSAVE returned an xfeature that the guest lacks
	uint64_t supported; // the xfeatures that KVM supports
	char problem[160];  // why the self-test failed
};

// Returns false, and sets `problem`, if the VM could not be run.
bool selftest_run(struct selftest *selftest);

#endif
