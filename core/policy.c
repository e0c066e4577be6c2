// SPDX-License-Identifier: MIT
#include "xsaveshim/policy.h"

#include <errno.h>

// Notes which of these xfeatures KVM does not take on this host, by reason.
static void diagnose_host(struct refusal *refusal, uint64_t xfeatures, struct host_caps host)
{
	uint64_t lacking = xfeatures & ~(host.xfeatures | XFEATURE_FPSSE);

	refusal->not_permitted = lacking & host.xcr0 & XFEATURE_XTILE;
	refusal->host_lacks = lacking & ~refusal->not_permitted;
}

struct refusal policy_diagnose(const void *head, struct vcpu vcpu, struct host_caps host)
{
	uint64_t bv = xstate_bv(head);
	struct refusal refusal = {
		.guest_lacks = vcpu.knowledge == VCPU_XCR0 ? bv & ~vcpu.guest_xcr0 : 0,
		.xcomp_bv = xstate_xcomp_bv(head),
		.reserved_bytes = xstate_reserved_used(head),
	};

	diagnose_host(&refusal, bv, host);
	// The kernel checks MXCSR only if it loads an xfeature that uses it.
	if (bv & (XFEATURE_FPSSE | XFEATURE_AVX))
		refusal.mxcsr = xstate_mxcsr(head) & host.mxcsr_reserved;
	// Few kernels refuse FP and SSE, so these are the reason only if there is no other.
	if (policy_always_refused(refusal) || refusal.guest_lacks & ~XFEATURE_FPSSE)
		refusal.guest_lacks &= ~XFEATURE_FPSSE;
	return refusal;
}

struct refusal policy_diagnose_xcr0(uint64_t xcr0, struct vcpu vcpu, struct host_caps host)
{
	struct refusal refusal = {
		.guest_lacks =
			vcpu.knowledge == VCPU_XCR0 ? xcr0 & ~(vcpu.guest_xcr0 | XFEATURE_FP) : 0};

	diagnose_host(&refusal, xcr0, host);
	return refusal;
}

bool policy_is_no_vcpu(int error)
{
	return error == EBADF || error == ENOTTY || error == EIO;
}

uint64_t policy_refused_xfeatures(struct refusal refusal)
{
	return refusal.host_lacks | refusal.not_permitted | refusal.guest_lacks;
}

bool policy_always_refused(struct refusal refusal)
{
	return refusal.host_lacks || refusal.not_permitted || refusal.xcomp_bv ||
	       refusal.reserved_bytes || refusal.mxcsr;
}

bool policy_refused_fpsse_alone(enum trim trim, struct refusal refusal)
{
	return policy_trims(trim, XSAVE_RESTORE) && refusal.guest_lacks & XFEATURE_FPSSE;
}
