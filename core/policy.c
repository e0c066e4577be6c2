// SPDX-License-Identifier: MIT
#include "xsaveshim/policy.h"

#include <errno.h>

struct refusal policy_diagnose(const void *head, struct vcpu vcpu, struct host_caps host)
{
	struct payload_parts parts = {
		.xstate_bv = xstate_bv(head),
		.xcomp_bv = xstate_xcomp_bv(head),
		.reserved_bytes = xstate_reserved_used(head),
		.mxcsr = xstate_mxcsr(head),
	};

	return policy_diagnose_parts(parts, vcpu, host);
}

bool policy_is_no_vcpu(int error)
{
	return error == EBADF || error == ENOTTY || error == EIO;
}

uint64_t policy_refused_xfeatures(struct refusal refusal)
{
	return refusal.host_lacks | refusal.not_permitted | refusal.guest_lacks;
}

bool policy_ends_vmm(enum trim trim, struct vcpu vcpu, struct refusal refusal)
{
	bool leaves = !policy_trims(trim, XSAVE_RESTORE) && vcpu.knowledge == VCPU_XCR0;
	uint64_t left = leaves ? ~vcpu.guest_xcr0 : 0;

	return policy_refused_xfeatures(refusal) & ~left || refusal.xcomp_bv ||
	       refusal.reserved_bytes || refusal.mxcsr;
}
