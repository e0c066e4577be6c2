// SPDX-License-Identifier: MIT
// What is known of each vCPU of a process, by its file descriptor.
//
// Thread- and async-signal-safe without a lock: a vCPU is one atomic word, and the kernel itself serialises the ioctls
// of one vCPU. Nothing here fails.
#ifndef XSAVESHIM_VCPUS_H
#define XSAVESHIM_VCPUS_H

#include <stdatomic.h>
#include <stdint.h>

#include "xsaveshim/policy.h"

#define VCPUS_MAX 65536

// 512 KiB, of which only the pages of the descriptors in use are ever touched: 512 descriptors a page. All zeroes: all unknown.
struct vcpus {
	_Atomic uint64_t words[VCPUS_MAX];
};

// What is known of the vCPU behind fd; VCPU_UNKNOWN for any fd outside the table.
struct vcpu vcpus_get(const struct vcpus *vcpus, int fd);

// Replaces what is known of fd. What does not fit is kept as VCPU_UNKNOWN, which has the kernel asked again where it
// matters: an fd of VCPUS_MAX or more, a guest XCR0 with a bit above 45 (no such xfeature exists).
void vcpus_set(struct vcpus *vcpus, int fd, struct vcpu vcpu);

#endif
