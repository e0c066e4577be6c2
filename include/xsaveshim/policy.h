// SPDX-License-Identifier: MIT
// The rules by which xsaveshim drops xfeatures from payloads (the buffers of KVM_SET_XSAVE and
// KVM_GET_XSAVE), and by which xsaveshim finds out why KVM refused a payload.
//
// No function uses global data, so all functions are thread- and async-signal-safe. The inline
// functions use no libc, so that BPF programs can call them.
#ifndef XSAVESHIM_POLICY_H
#define XSAVESHIM_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "xsaveshim/xstate.h"

// The payloads that xsaveshim trims: those that a VMM restores, those that a VMM saves, both, or
// none. The first value is the default.
enum trim { TRIM_RESTORE, TRIM_SAVE, TRIM_BOTH, TRIM_NONE };

enum xsave_direction {
	XSAVE_RESTORE, // KVM_SET_XSAVE: from the VMM to the kernel
	XSAVE_SAVE,    // KVM_GET_XSAVE, KVM_GET_XSAVE2: from the kernel to the VMM
};

enum vcpu_knowledge {
	VCPU_UNKNOWN,  // unknown: the ioctl's descriptor may be a dup(2), or may not be a vCPU's
	VCPU_NO_CPUID, // the vCPU has no CPUID table, so KVM accepts all xfeatures of the host
	VCPU_XCR0,     // the vCPU has a CPUID table, and guest_xcr0 is known
};

#define VCPU_ID_UNKNOWN (-1)

struct vcpu {
	enum vcpu_knowledge knowledge;
	int id; // the argument of KVM_CREATE_VCPU, or VCPU_ID_UNKNOWN

	// The guest XCR0: the xfeatures that leaf 0xD of the guest's CPUID enumerates. 0 unless
	// knowledge is VCPU_XCR0.
	uint64_t guest_xcr0;

	// The xfeatures that the guest has enabled in its register XCR0. The host mode reads the
	// register from KVM. The library and the supervisor see only the XCR0 that the VMM passes
	// to KVM_SET_XCRS, and store here only those bits of it that are not in guest_xcr0. Such
	// bits are rare: KVM accepts them only if KVM's CPUID table of the vCPU is not the table
	// from which xsaveshim learned guest_xcr0.
	uint64_t enabled_xcr0;
};

struct host_caps {
	// The xfeatures that the host's KVM supports. If xsaveshim does not know what KVM supports:
	// the xfeatures in the CPU's XCR0.
	uint64_t xfeatures;

	// The xfeatures in the CPU's XCR0. If AMX is in xcr0 but not in xfeatures, xsaveshim
	// concludes that the VMM has no permission to use AMX. The supervisor cannot see this
	// permission, and leaves xcr0 at 0.
	uint64_t xcr0;

	uint32_t mxcsr_reserved; // the MXCSR bits that the host's CPU refuses
};

// One payload's XSTATE_BV before and after trimming. Trimming drops the xfeatures that are in
// xstate_bv but not in allowed.
struct trim_result {
	uint64_t xstate_bv; // XSTATE_BV before trimming
	uint64_t allowed;   // the xfeatures that the payload may have
	uint64_t after;	    // XSTATE_BV after trimming; unchanged if the settings forbid trimming
};

// Returns the xfeatures that the vCPU's payload may have. If the vCPU's guest XCR0 is not known,
// policy_allowed returns all xfeatures. The result always has FP and SSE, because KVM allows
// XFEATURE_MASK_FPSSE to every guest (arch/x86/kvm/cpuid.c).
static inline uint64_t policy_allowed(struct vcpu vcpu)
{
	return vcpu.knowledge == VCPU_XCR0 ? vcpu.guest_xcr0 | vcpu.enabled_xcr0 | XFEATURE_FPSSE
					   : UINT64_MAX;
}

// Returns true if xsaveshim trims payloads of this direction. trim: the value of XSAVESHIM_TRIM.
static inline bool policy_trims(enum trim trim, enum xsave_direction direction)
{
	return trim == TRIM_BOTH || trim == (direction == XSAVE_RESTORE ? TRIM_RESTORE : TRIM_SAVE);
}

static inline struct trim_result
policy_trim(enum trim trim, enum xsave_direction direction, struct vcpu vcpu, uint64_t xstate_bv)
{
	struct trim_result result = {
		.xstate_bv = xstate_bv, .allowed = policy_allowed(vcpu), .after = xstate_bv};

	if (policy_trims(trim, direction))
		result.after &= result.allowed;
	return result;
}

// xcr0: the guest's XCR0, which the VMM sets with KVM_SET_XCRS. Returns those xfeatures of xcr0 that
// policy_allowed does not return. If the caller adds these xfeatures to vcpu.enabled_xcr0,
// policy_allowed returns them too.
static inline uint64_t policy_joins(struct vcpu vcpu, uint64_t xcr0)
{
	return xcr0 & ~policy_allowed(vcpu);
}

// Returns the xfeatures whose state xsaveshim dropped although the guest had enabled them. dropped:
// the xfeatures that xsaveshim dropped from the vCPU's payload. xcr0: the guest's XCR0, which the
// VMM sets with KVM_SET_XCRS after it has loaded this payload.
static inline uint64_t policy_lost(uint64_t dropped, uint64_t xcr0)
{
	return xcr0 & dropped;
}

// The reasons for which KVM_SET_XSAVE or KVM_SET_XCRS may have failed with EINVAL. If all fields
// are 0, no reason is known. Source: fpu_copy_uabi_to_guest_fpstate and copy_uabi_to_xstate in
// arch/x86/kernel/fpu, __kvm_set_xcr in arch/x86/kvm/x86.c.
struct refusal {
	uint64_t host_lacks;	// xfeatures that this host's KVM does not support
	uint64_t not_permitted; // AMX xfeatures that the VMM has no permission to use
	uint64_t guest_lacks;	// xfeatures outside the guest XCR0; some kernels refuse them
	uint64_t xcomp_bv;	// the payload's XCOMP_BV; KVM accepts only 0, the standard format
	bool reserved_bytes;	// true if a reserved byte of the payload's header is not 0
	uint32_t mxcsr;		// the payload's MXCSR bits that this CPU refuses
};

// The fields of a payload that can make KVM refuse the payload.
struct payload_parts {
	uint64_t xstate_bv;
	uint64_t xcomp_bv;
	bool reserved_bytes; // true if a reserved byte of the payload's header is not 0
	uint32_t mxcsr;
};

// Of the given xfeatures, finds those that this host's KVM refuses even if the guest's CPUID
// enumerates them. Stores them in refusal->host_lacks and refusal->not_permitted.
static inline void
policy_diagnose_host(struct refusal *refusal, uint64_t xfeatures, struct host_caps host)
{
	uint64_t lacking = xfeatures & ~(host.xfeatures | XFEATURE_FPSSE);

	refusal->not_permitted = lacking & host.xcr0 & XFEATURE_XTILE;
	refusal->host_lacks = lacking & ~refusal->not_permitted;
}

// Returns true if refusal has a reason that does not depend on the guest's CPUID, that is, any
// reason except guest_lacks.
static inline bool policy_always_refused(struct refusal refusal)
{
	return refusal.host_lacks || refusal.not_permitted || refusal.xcomp_bv ||
	       refusal.reserved_bytes || refusal.mxcsr;
}

// Returns true if xsaveshim knows why KVM refused the call.
static inline bool policy_is_diagnosed(struct refusal refusal)
{
	return policy_always_refused(refusal) || refusal.guest_lacks;
}

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
	// From Linux 5.16 on, the kernel checks MXCSR only if XSTATE_BV has FP, SSE or AVX.
	if (bv & (XFEATURE_FPSSE | XFEATURE_AVX))
		refusal.mxcsr = payload.mxcsr & host.mxcsr_reserved;
	// Few kernels refuse a payload because of FP or SSE. So FP and SSE count as a reason only
	// if there is no other reason.
	if (policy_always_refused(refusal) || refusal.guest_lacks & ~XFEATURE_FPSSE)
		refusal.guest_lacks &= ~XFEATURE_FPSSE;
	return refusal;
}

// Finds out why KVM refused a payload. head: the payload's first XSTATE_HEAD_SIZE bytes as KVM got
// them, that is, with XSTATE_BV after trimming.
struct refusal policy_diagnose(const void *head, struct vcpu vcpu, struct host_caps host);

static inline struct refusal
policy_diagnose_xcr0(uint64_t xcr0, struct vcpu vcpu, struct host_caps host)
{
	struct refusal refusal = {
		.guest_lacks =
			vcpu.knowledge == VCPU_XCR0 ? xcr0 & ~(vcpu.guest_xcr0 | XFEATURE_FP) : 0};

	policy_diagnose_host(&refusal, xcr0, host);
	return refusal;
}

// Returns true if this errno of an ioctl means that the descriptor is closed, is not a vCPU, or is
// a vCPU of another process (kvm_vcpu_ioctl in virt/kvm/kvm_main.c).
bool policy_is_no_vcpu(int error);

// Returns the xfeatures that KVM refused, or 0 if KVM refused something else, such as MXCSR.
uint64_t policy_refused_xfeatures(struct refusal refusal);

// Returns true if XSAVESHIM_REFUSED=abort ends a VMM whose KVM_SET_XSAVE or KVM_SET_XCRS has failed
// with EINVAL. The VMM runs on in two cases: refusal has no reason for the failure; or trim forbids
// xsaveshim to trim restored payloads, and KVM refused only xfeatures outside the guest XCR0.
bool policy_ends_vmm(enum trim trim, struct vcpu vcpu, struct refusal refusal);

// Returns true if KVM refused a payload only because of FP or SSE, and the settings let xsaveshim
// trim restored payloads. Linux 5.17 to 5.19.11 refuses FP and SSE if the guest's CPUID enumerates
// no XSAVE. xsaveshim must not drop FP and SSE, because the guest uses them. Instead, the library
// adds refusal.guest_lacks to leaf 0xD of the guest's CPUID, loads the payload, and sets the VMM's
// CPUID table again.
static inline bool policy_refused_fpsse_alone(enum trim trim, struct refusal refusal)
{
	return policy_trims(trim, XSAVE_RESTORE) && refusal.guest_lacks & XFEATURE_FPSSE;
}

#endif
