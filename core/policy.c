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
