// SPDX-License-Identifier: MIT
// The rule: what may be dropped from a payload, and why KVM may have refused one.
//
// Pure functions: thread- and async-signal-safe. None of them fails or keeps state. The inline ones
// need no libc, so that a BPF program can use them, too.
#ifndef XSAVESHIM_POLICY_H
#define XSAVESHIM_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "xsaveshim/xstate.h"

// Which payloads are trimmed: the default first.
enum trim { TRIM_RESTORE, TRIM_SAVE, TRIM_BOTH, TRIM_NONE };

enum xsave_direction {
	XSAVE_RESTORE, // KVM_SET_XSAVE: the VMM's payload on its way to the kernel
	XSAVE_SAVE,    // KVM_GET_XSAVE, KVM_GET_XSAVE2: the kernel's payload on its way to the VMM
};

enum vcpu_knowledge {
	VCPU_UNKNOWN,  // never seen: not a vCPU, or one that came as a duplicate
	VCPU_NO_CPUID, // created, but without a CPUID table: KVM accepts every bit the host
	// supports
	VCPU_XCR0, // its guest XCR0 is known
};

#define VCPU_ID_UNKNOWN (-1)

struct vcpu {
	enum vcpu_knowledge knowledge;
	int id;		       // KVM_CREATE_VCPU's argument, or VCPU_ID_UNKNOWN
	uint64_t guest_xcr0;   // what the guest's CPUID enumerates, with VCPU_XCR0; else 0
	uint64_t enabled_xcr0; // what KVM_SET_XCRS took beyond that, from a KVM that rewrites CPUID
			       // tables; nearly always 0
};

// What this host can load.
struct host_caps {
	uint64_t xfeatures; // what its KVM supports, as far as known
	uint64_t xcr0; // what its CPU has enabled: KVM hides from a process what that process has
		       // no permission for
	uint32_t mxcsr_reserved; // MXCSR bits that its CPU refuses
};

struct trim_result {
	uint64_t xstate_bv; // as the payload has it
	uint64_t allowed;   // what the guest may have: dropped is xstate_bv & ~allowed
	uint64_t after;	    // what the payload is to have: xstate_bv, or with trimming xstate_bv &
			    // allowed
};

// What a vCPU may have in XSTATE_BV. Only a vCPU whose guest XCR0 is known is ever limited. FP and
// SSE need no CPUID bit: arch/x86/kvm/cpuid.c allows XFEATURE_MASK_FPSSE to every guest, and a
// guest without XSAVE has both. The XCR0 that KVM took from KVM_SET_XCRS is what the guest really
// uses: upstream KVM takes none outside the guest's CPUID.
static inline uint64_t policy_allowed(struct vcpu vcpu)
{
	return vcpu.knowledge == VCPU_XCR0 ? vcpu.guest_xcr0 | vcpu.enabled_xcr0 | XFEATURE_FPSSE
					   : UINT64_MAX;
}

static inline bool policy_trims(enum trim mode, enum xsave_direction direction)
{
	return mode == TRIM_BOTH || mode == (direction == XSAVE_RESTORE ? TRIM_RESTORE : TRIM_SAVE);
}

// What becomes of a payload with this xstate_bv that travels in this direction.
static inline struct trim_result
policy_trim(enum trim mode, enum xsave_direction direction, struct vcpu vcpu, uint64_t xstate_bv)
{
	struct trim_result trim = {
		.xstate_bv = xstate_bv, .allowed = policy_allowed(vcpu), .after = xstate_bv};

	if (policy_trims(mode, direction))
		trim.after &= trim.allowed;
	return trim;
}

// Of an XCR0 that KVM took from KVM_SET_XCRS: what of it the vCPU may from now on have in XSTATE_BV
// although its CPUID does not enumerate it.
static inline uint64_t policy_joins(struct vcpu vcpu, uint64_t xcr0)
{
	return xcr0 & ~policy_allowed(vcpu);
}

// Of an XCR0 that KVM took from KVM_SET_XCRS: the state that the guest used and that was dropped
// from the payload before.
static inline uint64_t policy_lost(uint64_t dropped, uint64_t xcr0)
{
	return xcr0 & dropped;
}

// Why KVM_SET_XSAVE or KVM_SET_XCRS may have failed with EINVAL; all zero: no reason is known.
// Source: fpu_copy_uabi_to_guest_fpstate and copy_uabi_to_xstate in arch/x86/kernel/fpu,
// __kvm_set_xcr in arch/x86/kvm/x86.c.
struct refusal {
	uint64_t host_lacks;	// bits that this host's KVM does not support
	uint64_t not_permitted; // bits that it supports, but not to this process: AMX without
				// ARCH_REQ_XCOMP_GUEST_PERM
	uint64_t guest_lacks;	// bits outside the guest's XCR0: affected kernels refuse them in a
				// payload, all kernels in XCR0
	uint64_t xcomp_bv;	// not 0: KVM takes the standard format only
	bool reserved_bytes;	// a reserved byte of the header is not 0
	uint32_t mxcsr;		// the MXCSR bits that this CPU does not have
};

// KVM_SET_XSAVE. In: the payload's first XSTATE_HEAD_SIZE bytes as the kernel was given them.
struct refusal policy_diagnose(const void *head, struct vcpu vcpu, struct host_caps host);

// KVM_SET_XCRS.
struct refusal policy_diagnose_xcr0(uint64_t xcr0, struct vcpu vcpu, struct host_caps host);

// Whether an ioctl that failed with this errno was no vCPU's of this process, so that its payload
// is nobody's: the descriptor is closed or another file's, or the VM is another process's
// (kvm_vcpu_ioctl in virt/kvm/kvm_main.c).
bool policy_is_no_vcpu(int error);

// The xfeatures that a refusal is about. Zero where it has another reason, such as MXCSR.
uint64_t policy_refused_xfeatures(struct refusal refusal);

// Whether every kernel of this host refuses such a payload, whatever the guest has.
bool policy_always_refused(struct refusal refusal);

// Whether the refusal is the one of kernels from 5.17 to 5.19.11: the payload has no fault but FP
// and SSE, in a guest whose CPUID enumerates no XSAVE, and trimming must not drop these two. KVM
// takes such a payload while the guest's leaf 0xD is widened by refusal.guest_lacks.
bool policy_refused_fpsse_alone(enum trim mode, struct refusal refusal);

#endif
