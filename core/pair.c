// SPDX-License-Identifier: MIT
#include "xsaveshim/pair.h"

#include "xsaveshim/xstate.h"

struct pair_result pair_judge(struct pair_host from, struct pair_host to)
{
	// A host can leak at most the xfeatures that its kernel has enabled in XCR0.
	uint64_t leaks = from.source_known ? from.leaks : from.enabled;
	// x87 and SSE that `from` does not save are not in the payload, so `to` cannot refuse them.
	uint64_t lost = from.source_known ? from.loses : 0;
	// A strict kernel refuses x87 and SSE in the KVM_SET_XSAVE payload of a guest that has no
	// XSAVE. Of xsaveshim's modes, only the library can make a strict kernel load this payload.
	bool is_strict = to.refuses & XFEATURE_FPSSE & ~lost;
	uint64_t refused = leaks & to.refuses & ~XFEATURE_FPSSE;
	struct pair_result result = {.answer = PAIR_UNKNOWN, .lost_when_saved = lost};

	if (!to.destination_known)
		return result;
	result.no_if_shown = from.supported & ~to.supported & ~XFEATURE_FPSSE;
	result.needs_permission =
		from.supported & to.supported & (from.needs_permission | to.needs_permission);
	if (refused && !from.source_known && !is_strict)
		return result;
	result.answer = PAIR_YES;
	if (!refused && !is_strict)
		return result;
	result.answer = PAIR_WITH_XSAVESHIM;
	result.refused = from.source_known ? refused : 0;
	result.only_guests_without_xsave = !refused;
	result.by = PAIR_BY_LIBRARY;
	if (!is_strict)
		result.by |=
			PAIR_BY_SUPERVISOR | PAIR_BY_HOST_MODE_ON_TO | PAIR_BY_HOST_MODE_ON_FROM;
	return result;
}
