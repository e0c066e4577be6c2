// SPDX-License-Identifier: MIT
// The rule: which xfeatures are dropped from a payload, and why KVM may have refused one.
//
// All functions are pure: thread- and async-signal-safe, without state, and none fails. The inline
// ones need no libc, so that a BPF program can use them, too.
#ifndef XSAVESHIM_POLICY_H
#define XSAVESHIM_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "xsaveshim/xstate.h"

// The payloads that are trimmed. The first value is the default.
enum trim { TRIM_RESTORE, TRIM_SAVE, TRIM_BOTH, TRIM_NONE };

enum xsave_direction {
	XSAVE_RESTORE, // KVM_SET_XSAVE: from the VMM to the kernel
	XSAVE_SAVE,    // KVM_GET_XSAVE, KVM_GET_XSAVE2: from the kernel to the VMM
};

enum vcpu_knowledge {
	VCPU_UNKNOWN,  // its creation was not seen: no vCPU, or the duplicate of a descriptor
	VCPU_NO_CPUID, // it has no CPUID table: KVM takes every xfeature that the host supports
	VCPU_XCR0,     // its guest XCR0 is known
};

#define VCPU_ID_UNKNOWN (-1)

struct vcpu {
	enum vcpu_knowledge knowledge;
	int id;		     // KVM_CREATE_VCPU's argument, or VCPU_ID_UNKNOWN
	uint64_t guest_xcr0; // from the guest's CPUID, with VCPU_XCR0; else 0

	// The bits outside guest_xcr0 that KVM_SET_XCRS has set. Nearly always 0: only a KVM that
	// rewrites CPUID tables takes such bits.
	uint64_t enabled_xcr0;
};

// The capabilities of this host.
struct host_caps {
	uint64_t xfeatures;	 // that its KVM supports, as far as known
	uint64_t xcr0;		 // that its CPU has enabled; KVM hides those without permission
	uint32_t mxcsr_reserved; // the MXCSR bits that its CPU refuses
};

// One payload's XSTATE_BV, before and after. The dropped xfeatures are xstate_bv & ~allowed.
struct trim_result {
	uint64_t xstate_bv; // before
	uint64_t allowed;   // the xfeatures that the guest may have
	uint64_t after;	    // equal to xstate_bv if the settings do not trim this payload
};

// Returns the xfeatures that may be in the vCPU's payload: all if its guest XCR0 is not known. FP
// and SSE need no CPUID bit: KVM allows XFEATURE_MASK_FPSSE to every guest (arch/x86/kvm/cpuid.c).
static inline uint64_t policy_allowed(struct vcpu vcpu)
{
	return vcpu.knowledge == VCPU_XCR0 ? vcpu.guest_xcr0 | vcpu.enabled_xcr0 | XFEATURE_FPSSE
					   : UINT64_MAX;
}

// Returns true if the setting has payloads of this direction trimmed.
static inline bool policy_trims(enum trim trim, enum xsave_direction direction)
{
	return trim == TRIM_BOTH || trim == (direction == XSAVE_RESTORE ? TRIM_RESTORE : TRIM_SAVE);
}

// Applies the rule to a payload with this xstate_bv.
static inline struct trim_result
policy_trim(enum trim trim, enum xsave_direction direction, struct vcpu vcpu, uint64_t xstate_bv)
{
	struct trim_result result = {
		.xstate_bv = xstate_bv, .allowed = policy_allowed(vcpu), .after = xstate_bv};

	if (policy_trims(trim, direction))
		result.after &= result.allowed;
	return result;
}

// Takes an XCR0 that KVM accepted from KVM_SET_XCRS. Returns the xfeatures that the guest uses
// although its CPUID does not enumerate them: the vCPU may have them from then on.
static inline uint64_t policy_joins(struct vcpu vcpu, uint64_t xcr0)
{
	return xcr0 & ~policy_allowed(vcpu);
}

// Takes an XCR0 that KVM accepted from KVM_SET_XCRS, and the xfeatures that were dropped from the
// vCPU's payload before. Returns the xfeatures that the guest used and whose state is lost.
static inline uint64_t policy_lost(uint64_t dropped, uint64_t xcr0)
{
	return xcr0 & dropped;
}

// The reasons for which KVM_SET_XSAVE or KVM_SET_XCRS may have failed with EINVAL. All zeroes: no
// reason is known. Source: fpu_copy_uabi_to_guest_fpstate and copy_uabi_to_xstate in
// arch/x86/kernel/fpu, __kvm_set_xcr in arch/x86/kvm/x86.c.
struct refusal {
	uint64_t host_lacks;	// xfeatures that this host's KVM does not support
	uint64_t not_permitted; // AMX, if this process lacks ARCH_REQ_XCOMP_GUEST_PERM
	uint64_t guest_lacks;	// outside the guest's XCR0; not all kernels refuse such a payload
	uint64_t xcomp_bv;	// if not 0: KVM takes the standard format only
	bool reserved_bytes;	// true if a reserved byte of the header is not 0
	uint32_t mxcsr;		// the MXCSR bits that this CPU refuses
};

// The parts of a payload that KVM can refuse.
struct payload_parts {
	uint64_t xstate_bv;
	uint64_t xcomp_bv;
	bool reserved_bytes; // true if a reserved byte of the header is not 0
	uint32_t mxcsr;
};

// Notes which of these xfeatures KVM does not take on this host, by reason.
static inline void
policy_diagnose_host(struct refusal *refusal, uint64_t xfeatures, struct host_caps host)
{
	uint64_t lacking = xfeatures & ~(host.xfeatures | XFEATURE_FPSSE);

	refusal->not_permitted = lacking & host.xcr0 & XFEATURE_XTILE;
	refusal->host_lacks = lacking & ~refusal->not_permitted;
}

// Returns true if every kernel on this host refuses such a payload, whatever the guest has.
static inline bool policy_always_refused(struct refusal refusal)
{
	return refusal.host_lacks || refusal.not_permitted || refusal.xcomp_bv ||
	       refusal.reserved_bytes || refusal.mxcsr;
}

// Returns true if a reason for the refusal is known.
static inline bool policy_is_diagnosed(struct refusal refusal)
{
	return policy_always_refused(refusal) || refusal.guest_lacks;
}

// Diagnoses a refused KVM_SET_XSAVE.
static inline struct refusal
policy_diagnose_parts(struct payload_parts payload, struct vcpu vcpu, struct host_caps host)
{
	uint64_t bv = payload.xstate_bv;
	struct refusal refusal = {
		.guest_lacks = vcpu.knowledge == VCPU_XCR0 ? bv & ~vcpu.guest_xcr0 : 0,
		.xcomp_bv = payload.xcomp_bv,
		.reserved_bytes = payload.reserved_bytes,
	};

	policy_diagnose_host(&refusal, bv, host);
	// The kernel checks MXCSR only if it loads an xfeature that uses it.
	if (bv & (XFEATURE_FPSSE | XFEATURE_AVX))
		refusal.mxcsr = payload.mxcsr & host.mxcsr_reserved;
	// Few kernels refuse FP and SSE to a guest, so these two are the reason only if there is no
	// other.
	if (policy_always_refused(refusal) || refusal.guest_lacks & ~XFEATURE_FPSSE)
		refusal.guest_lacks &= ~XFEATURE_FPSSE;
	return refusal;
}

// The same for the payload's first XSTATE_HEAD_SIZE bytes, as the kernel saw them.
struct refusal policy_diagnose(const void *head, struct vcpu vcpu, struct host_caps host);

// Diagnoses a refused KVM_SET_XCRS.
static inline struct refusal
policy_diagnose_xcr0(uint64_t xcr0, struct vcpu vcpu, struct host_caps host)
{
	struct refusal refusal = {
		.guest_lacks =
			vcpu.knowledge == VCPU_XCR0 ? xcr0 & ~(vcpu.guest_xcr0 | XFEATURE_FP) : 0};

	policy_diagnose_host(&refusal, xcr0, host);
	return refusal;
}

// Returns true if an ioctl failed with this errno because the descriptor is closed, is no vCPU, or
// belongs to another process's VM (kvm_vcpu_ioctl in virt/kvm/kvm_main.c).
bool policy_is_no_vcpu(int error);

// Returns the xfeatures that KVM refused. 0 if it refused something else, such as MXCSR.
uint64_t policy_refused_xfeatures(struct refusal refusal);

// Returns true if XSAVESHIM_REFUSED=abort ends the VMM after an EINVAL: there is a reason, and not only
// xfeatures that the settings leave in the payload although the guest lacks them.
bool policy_ends_vmm(enum trim trim, struct vcpu vcpu, struct refusal refusal);

// Returns true if only a kernel from 5.17 to 5.19.11 refuses such a payload: its only fault is that
// it has FP or SSE, which trimming must not drop, in a guest whose CPUID enumerates no XSAVE. KVM
// takes it while the guest's leaf 0xD is widened by refusal.guest_lacks.
static inline bool policy_refused_fpsse_alone(enum trim trim, struct refusal refusal)
{
	return policy_trims(trim, XSAVE_RESTORE) && refusal.guest_lacks & XFEATURE_FPSSE;
}

#endif
