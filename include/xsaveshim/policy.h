// SPDX-License-Identifier: MIT
// The rule: what may be dropped from a payload, and why KVM may have refused one.
//
// Pure functions: thread- and async-signal-safe, nothing here fails or keeps state.
#ifndef XSAVESHIM_POLICY_H
#define XSAVESHIM_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "xsaveshim/settings.h"
#include "xsaveshim/vcpus.h"

enum xsave_direction {
	XSAVE_RESTORE,	// KVM_SET_XSAVE: the VMM's payload on its way to the kernel
	XSAVE_SAVE,	// KVM_GET_XSAVE, KVM_GET_XSAVE2: the kernel's payload on its way to the VMM
};

struct trim {
	uint64_t xstate_bv;	// as the payload has it
	uint64_t allowed;	// what the guest may have: dropped is xstate_bv & ~allowed
	uint64_t written;	// what the payload is to have: xstate_bv, or with trimming xstate_bv & allowed
};

// What a vCPU may have in XSTATE_BV. Only a vCPU whose guest XCR0 is known is ever limited. FP and SSE need no CPUID
// bit: arch/x86/kvm/cpuid.c allows XFEATURE_MASK_FPSSE to every guest, and a guest without XSAVE has both.
uint64_t policy_allowed(struct vcpu vcpu);

// What becomes of a payload with this xstate_bv that travels in this direction.
struct trim policy_trim(enum trim_mode mode, enum xsave_direction direction, struct vcpu vcpu, uint64_t xstate_bv);

// What speaks against a payload that KVM_SET_XSAVE refused with EINVAL; all zero: nothing that is known.
// Source: fpu_copy_uabi_to_guest_fpstate and copy_uabi_to_xstate in arch/x86/kernel/fpu.
struct refusal {
	uint64_t host_lacks;	// XSTATE_BV bits that this host's KVM does not support
	uint64_t guest_lacks;	// XSTATE_BV bits outside the guest's XCR0, which affected kernels refuse
	uint64_t xcomp_bv;	// not 0: KVM takes the standard format only
	bool reserved_bytes;	// a reserved byte of the header is not 0
	uint32_t mxcsr;		// the MXCSR bits that this CPU does not have
};

// In: the payload's first XSTATE_HEAD_SIZE bytes as the kernel was given them, the vCPU, and the xfeatures this host's KVM
// supports as far as known.
struct refusal policy_diagnose(const void *head, struct vcpu vcpu, uint64_t host_xfeatures);

// Whether the refusal is the one of kernels from 5.17 to 5.19.11: nothing is wrong but FP and SSE, in a guest whose
// CPUID enumerates no XSAVE, which trimming must not drop. Such a payload loads while the guest's leaf 0xD is widened.
bool policy_refused_fpsse_alone(enum trim_mode mode, struct refusal refusal);

#endif
