// SPDX-License-Identifier: MIT
#include "xsaveshim/policy.h"

#include "xsaveshim/xstate.h"

uint64_t policy_allowed(struct vcpu vcpu)
{
	return vcpu.knowledge == VCPU_XCR0 ? vcpu.guest_xcr0 | XFEATURE_FPSSE : UINT64_MAX;
}

static bool mode_trims(enum trim_mode mode, enum xsave_direction direction)
{
	return mode == TRIM_BOTH || mode == (direction == XSAVE_RESTORE ? TRIM_RESTORE : TRIM_SAVE);
}

struct trim policy_trim(enum trim_mode mode, enum xsave_direction direction, struct vcpu vcpu, uint64_t xstate_bv)
{
	struct trim trim = {.xstate_bv = xstate_bv, .allowed = policy_allowed(vcpu), .written = xstate_bv};

	if (mode_trims(mode, direction))
		trim.written &= trim.allowed;
	return trim;
}

struct refusal policy_diagnose(const void *head, struct vcpu vcpu, uint64_t host_xfeatures)
{
	uint64_t bv = xstate_bv(head);
	struct refusal refusal = {
		.host_lacks = bv & ~(host_xfeatures | XFEATURE_FPSSE),
		.guest_lacks = vcpu.knowledge == VCPU_XCR0 ? bv & ~vcpu.guest_xcr0 : 0,
		.xcomp_bv = xstate_xcomp_bv(head),
		.reserved_bytes = xstate_reserved_used(head),
	};

	// The kernel looks at MXCSR only where a component that it belongs to is loaded.
	if (bv & (XFEATURE_FPSSE | XFEATURE_AVX))
		refusal.mxcsr = xstate_mxcsr(head) & xstate_host_mxcsr_reserved();
	// Few kernels refuse FP and SSE to a guest, so these two are the reason only where there is no other.
	if (refusal.host_lacks || refusal.xcomp_bv || refusal.reserved_bytes || refusal.mxcsr ||
	    refusal.guest_lacks & ~XFEATURE_FPSSE)
		refusal.guest_lacks &= ~XFEATURE_FPSSE;
	return refusal;
}

bool policy_refused_fpsse_alone(enum trim_mode mode, struct refusal refusal)
{
	return mode_trims(mode, XSAVE_RESTORE) && refusal.guest_lacks & XFEATURE_FPSSE;
}
