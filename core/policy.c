// SPDX-License-Identifier: MIT
#include "xsaveshim/policy.h"

struct refusal policy_diagnose(const void *head, struct vcpu vcpu, struct host host)
{
	uint64_t bv = xstate_bv(head);
	struct refusal refusal = {
		.host_lacks = bv & ~(host.xfeatures | XFEATURE_FPSSE),
		.guest_lacks = vcpu.knowledge == VCPU_XCR0 ? bv & ~vcpu.guest_xcr0 : 0,
		.xcomp_bv = xstate_xcomp_bv(head),
		.reserved_bytes = xstate_reserved_used(head),
	};

	// The kernel looks at MXCSR only where a component that it belongs to is loaded.
	if (bv & (XFEATURE_FPSSE | XFEATURE_AVX))
		refusal.mxcsr = xstate_mxcsr(head) & host.mxcsr_reserved;
	// Few kernels refuse FP and SSE to a guest, so these two are the reason only where there is no other.
	if (policy_always_refused(refusal) || refusal.guest_lacks & ~XFEATURE_FPSSE)
		refusal.guest_lacks &= ~XFEATURE_FPSSE;
	return refusal;
}

bool policy_always_refused(struct refusal refusal)
{
	return refusal.host_lacks || refusal.xcomp_bv || refusal.reserved_bytes || refusal.mxcsr;
}

bool policy_refused_fpsse_alone(enum trim_mode mode, struct refusal refusal)
{
	return policy_mode_trims(mode, XSAVE_RESTORE) && refusal.guest_lacks & XFEATURE_FPSSE;
}
