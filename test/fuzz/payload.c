// SPDX-License-Identifier: MIT
// Feeds payloads (the state that KVM_SET_XSAVE loads) to the functions that clear xfeatures in a
// payload, find out why KVM refused a payload, and write the lines of xsaveshim's log.
#include "fuzz.h"

#include "xsaveshim/xstate.h"

static void check_trim(struct trim_result trim, enum trim setting, enum xsave_direction direction,
		       struct vcpu vcpu)
{
	uint64_t dropped = trim.xstate_bv & ~trim.after;

	MUST(!(trim.after & ~trim.xstate_bv));
	MUST(!(dropped & (vcpu.guest_xcr0 | XFEATURE_FPSSE)));
	MUST(!dropped || vcpu.knowledge == VCPU_XCR0);
	MUST(!dropped || setting == TRIM_BOTH ||
	     setting == (direction == XSAVE_SAVE ? TRIM_SAVE : TRIM_RESTORE));
	MUST(policy_trim(setting, direction, vcpu, trim.after).after == trim.after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	enum trim setting = (enum trim)(take(&input, 1) % 4);
	enum xsave_direction direction = (enum xsave_direction)(take(&input, 1) % 2);
	struct vcpu vcpu = take_vcpu(&input);
	struct host_caps host = {take(&input, 8), take(&input, 8), (uint32_t)take(&input, 4)};
	struct vcpu_call call = {direction ? "KVM_GET_XSAVE2" : "KVM_SET_XSAVE",
				 (int)take(&input, 4), vcpu, false};
	int error = (int)take(&input, 1);
	struct log log = checked_log();
	struct refusal refusal;
	struct trim_result trim;
	char *memory, *head;

	if (input.size < XSTATE_HEAD_SIZE)
		return 0;
	memory = take_rest(&input);
	head = memory + input.size - XSTATE_HEAD_SIZE;
	trim = policy_trim(setting, direction, vcpu, xstate_bv(head));
	check_trim(trim, setting, direction, vcpu);
	refusal = policy_diagnose(head, vcpu, host);
	MUST(!(refusal.host_lacks & ~trim.xstate_bv) && !(refusal.guest_lacks & ~trim.xstate_bv));
	report_trim(&log, call, trim, (uint32_t)take(&input, 4));
	report_learn(&log, call);
	report_refused(&log, call, error, trim.xstate_bv, refusal, 1);
	report_xcr0_refused(&log, call, error, trim.xstate_bv,
			    policy_diagnose_xcr0(trim.xstate_bv, vcpu, host), 10);
	report_lost(&log, call, trim.allowed, trim.xstate_bv, 100);
	xstate_set_bv(head, trim.after);
	MUST(xstate_bv(head) == trim.after);
	check_log();
	free(memory);
	return 0;
}
