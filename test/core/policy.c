// SPDX-License-Identifier: MIT
// Tests policy.h. policy.h decides which xfeatures xsaveshim clears in a payload, the state that
// KVM_GET_XSAVE saves and KVM_SET_XSAVE loads. If KVM refuses a payload, policy.h looks for the
// reasons.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "kvm.h"
#include "xsaveshim/policy.h"
#include "xsaveshim/xstate.h"

static const struct vcpu unknown = {VCPU_UNKNOWN, VCPU_ID_UNKNOWN, 0, 0};

static void allowed_is_xcr0_fp_sse(void)
{
	same("0", policy_allowed((struct vcpu){VCPU_XCR0, 0, 0, 0}), 0x3);
	same("avx", policy_allowed((struct vcpu){VCPU_XCR0, 0, 0x4, 0}), 0x7);
	same("0x2e7", policy_allowed((struct vcpu){VCPU_XCR0, 0, 0x2e7, 0}), 0x2e7);
	same("bit 63", policy_allowed((struct vcpu){VCPU_XCR0, 0, UINT64_C(1) << 63, 0}),
	     UINT64_C(1) << 63 | 0x3);
}

static void allowed_without_xcr0(void)
{
	same("unknown", policy_allowed((struct vcpu){VCPU_UNKNOWN, 0, 0, 0}), UINT64_MAX);
	same("no CPUID yet", policy_allowed((struct vcpu){VCPU_NO_CPUID, 0, 0, 0}), UINT64_MAX);
}

static void trim_keeps_what_cpuid_has(void)
{
	struct vcpu vcpu = {VCPU_XCR0, 0, UINT64_C(0x4000000e7), 0};
	struct trim_result trim =
		policy_trim(TRIM_RESTORE, XSAVE_RESTORE, vcpu, UINT64_C(0x4000002ff));

	same("XSTATE_BV", trim.xstate_bv, UINT64_C(0x4000002ff));
	same("allowed", trim.allowed, UINT64_C(0x4000000e7));
	same("after", trim.after, UINT64_C(0x4000000e7));
}

static void trim_twice(void)
{
	for (uint64_t bv = 0; bv < 1024; bv++) {
		for (uint64_t xcr0 = 0; xcr0 < 1024; xcr0 += 31) {
			struct vcpu vcpu = {VCPU_XCR0, 0, xcr0, 0};
			uint64_t once = policy_trim(TRIM_RESTORE, XSAVE_RESTORE, vcpu, bv).after;

			same("once", once, bv & (xcr0 | 3));
			same("twice", policy_trim(TRIM_RESTORE, XSAVE_RESTORE, vcpu, once).after,
			     once);
		}
	}
}

static void trim_settings(void)
{
	static const struct {
		enum trim trim;
		uint64_t restored, saved;
	} rows[] = {{TRIM_RESTORE, 0x3, 0x207},
		    {TRIM_SAVE, 0x207, 0x3},
		    {TRIM_BOTH, 0x3, 0x3},
		    {TRIM_NONE, 0x207, 0x207}};
	struct vcpu vcpu = {VCPU_XCR0, 0, 0, 0};

	for (size_t i = 0; i < COUNT(rows); i++) {
		same("restored", policy_trim(rows[i].trim, XSAVE_RESTORE, vcpu, 0x207).after,
		     rows[i].restored);
		same("saved", policy_trim(rows[i].trim, XSAVE_SAVE, vcpu, 0x207).after,
		     rows[i].saved);
		same("allowed", policy_trim(rows[i].trim, XSAVE_RESTORE, vcpu, 0x207).allowed, 0x3);
	}
}

static void trim_only_what_is_known(void)
{
	struct vcpu fresh = {VCPU_NO_CPUID, 0, 0, 0};

	same("unknown", policy_trim(TRIM_BOTH, XSAVE_RESTORE, unknown, UINT64_MAX).after,
	     UINT64_MAX);
	same("no CPUID yet", policy_trim(TRIM_BOTH, XSAVE_RESTORE, fresh, UINT64_MAX).after,
	     UINT64_MAX);
	same("saved", policy_trim(TRIM_BOTH, XSAVE_SAVE, fresh, UINT64_MAX).after, UINT64_MAX);
}

// The fields of a payload that can make KVM refuse the payload.
struct head {
	uint64_t xstate_bv;
	uint64_t xcomp_bv;
	uint32_t mxcsr;
	unsigned char reserved;
};

static struct refusal diagnose(struct head head, struct vcpu vcpu, uint64_t xfeatures)
{
	unsigned char bytes[XSTATE_HEAD_SIZE + 1] = {0};
	unsigned char *payload = bytes + 1;

	memcpy(payload + 24, &head.mxcsr, 4);
	memcpy(payload + 512, &head.xstate_bv, 8);
	memcpy(payload + 520, &head.xcomp_bv, 8);
	payload[575] = head.reserved;
	return policy_diagnose(
		payload, vcpu,
		(struct host_caps){xfeatures, 0x60207, xstate_host_mxcsr_reserved()});
}

static void same_refusal(const char *what, struct refusal got, struct refusal expected)
{
	const struct {
		const char *reason;
		uint64_t got, expected;
	} rows[] = {{"host lacks", got.host_lacks, expected.host_lacks},
		    {"not permitted", got.not_permitted, expected.not_permitted},
		    {"guest lacks", got.guest_lacks, expected.guest_lacks},
		    {"XCOMP_BV", got.xcomp_bv, expected.xcomp_bv},
		    {"reserved bytes", got.reserved_bytes, expected.reserved_bytes},
		    {"MXCSR", got.mxcsr, expected.mxcsr}};
	char text[64];

	for (size_t i = 0; i < COUNT(rows); i++) {
		snprintf(text, sizeof(text), "%s, %s", what, rows[i].reason);
		same(text, rows[i].got, rows[i].expected);
	}
}

static const struct vcpu avx_guest = {VCPU_XCR0, 0, 0x7, 0};

static void diagnose_host(void)
{
	struct vcpu big = {VCPU_XCR0, 0, 0xe7, 0};

	same_refusal("zmm", diagnose((struct head){0xe7, 0, 0x1f80, 0}, big, 0x7),
		     (struct refusal){.host_lacks = 0xe0});
	same_refusal("x87, sse", diagnose((struct head){0x3, 0, 0x1f80, 0}, avx_guest, 0),
		     (struct refusal){0});
}

static void diagnose_guest(void)
{
	same_refusal("pkru", diagnose((struct head){0x207, 0, 0x1f80, 0}, avx_guest, 0x2e7),
		     (struct refusal){.guest_lacks = 0x200});
	same_refusal("a guest whose CPUID table is unknown",
		     diagnose((struct head){0x207, 0, 0x1f80, 0}, unknown, 0x2e7),
		     (struct refusal){0});
	same_refusal("no CPUID yet",
		     diagnose((struct head){0x207, 0, 0x1f80, 0},
			      (struct vcpu){VCPU_NO_CPUID, 0, 0, 0}, 0x2e7),
		     (struct refusal){0});
}

static void diagnose_header(void)
{
	same_refusal("XCOMP_BV",
		     diagnose((struct head){0x7, UINT64_C(1) << 63 | 7, 0x1f80, 0}, avx_guest, 0x7),
		     (struct refusal){.xcomp_bv = UINT64_C(1) << 63 | 7});
	same_refusal("reserved", diagnose((struct head){0x7, 0, 0x1f80, 1}, avx_guest, 0x7),
		     (struct refusal){.reserved_bytes = true});
}

static void diagnose_mxcsr(void)
{
	for (uint64_t xstate_bv = 0x1; xstate_bv <= 0x4; xstate_bv <<= 1)
		same_refusal("x87, sse or avx",
			     diagnose((struct head){xstate_bv, 0, 0x80001f80, 0}, avx_guest, 0x7),
			     (struct refusal){.mxcsr = 0x80000000});
	same_refusal("XSTATE_BV of 0", diagnose((struct head){0, 0, 0x80001f80, 0}, avx_guest, 0x7),
		     (struct refusal){0});
}

static void diagnose_fpsse(void)
{
	struct vcpu none = {VCPU_XCR0, 0, 0, 0};

	same_refusal("FP and SSE alone", diagnose((struct head){0x3, 0, 0x1f80, 0}, none, 0x207),
		     (struct refusal){.guest_lacks = 0x3});
	same_refusal("FP, SSE and pkru", diagnose((struct head){0x203, 0, 0x1f80, 0}, none, 0x207),
		     (struct refusal){.guest_lacks = 0x200});
	same_refusal("FP, SSE and a bit that host and guest lack",
		     diagnose((struct head){0x103, 0, 0x1f80, 0}, none, 0x7),
		     (struct refusal){.host_lacks = 0x100, .guest_lacks = 0x100});
	same_refusal("FP, SSE and a bit that only the host lacks",
		     diagnose((struct head){0x103, 0, 0x1f80, 0},
			      (struct vcpu){VCPU_XCR0, 0, 0x100, 0}, 0x7),
		     (struct refusal){.host_lacks = 0x100});
	same_refusal("FP, SSE and XCOMP_BV", diagnose((struct head){0x3, 1, 0x1f80, 0}, none, 0x7),
		     (struct refusal){.xcomp_bv = 1});
	same_refusal("FP, SSE and a reserved byte",
		     diagnose((struct head){0x3, 0, 0x1f80, 1}, none, 0x7),
		     (struct refusal){.reserved_bytes = true});
	same_refusal("FP, SSE and MXCSR", diagnose((struct head){0x3, 0, 0x80000000, 0}, none, 0x7),
		     (struct refusal){.mxcsr = 0x80000000});
}

static void widen_when(void)
{
	struct refusal fpsse = {.guest_lacks = 0x3};

	same("restore", policy_refused_fpsse_alone(TRIM_RESTORE, fpsse), true);
	same("both", policy_refused_fpsse_alone(TRIM_BOTH, fpsse), true);
	same("save", policy_refused_fpsse_alone(TRIM_SAVE, fpsse), false);
	same("none", policy_refused_fpsse_alone(TRIM_NONE, fpsse), false);
	same("pkru",
	     policy_refused_fpsse_alone(TRIM_RESTORE, (struct refusal){.guest_lacks = 0x200}),
	     false);
	same("no reason", policy_refused_fpsse_alone(TRIM_RESTORE, (struct refusal){0}), false);
}

static void abort_when(void)
{
	struct vcpu none = {VCPU_XCR0, 0, 0, 0}, fresh = {VCPU_NO_CPUID, 0, 0, 0};
	static const struct {
		struct refusal refusal;
		bool trims, does_not;
	} rows[] = {
		{{0}, false, false},
		{{.guest_lacks = 0x200}, true, false},
		{{.host_lacks = 0x200}, true, false},
		{{.host_lacks = 0x4}, true, true},
		{{.host_lacks = 0x204}, true, true},
		{{.host_lacks = 0x200, .xcomp_bv = 1}, true, true},
		{{.guest_lacks = 0x200, .reserved_bytes = true}, true, true},
		{{.mxcsr = 0x10000}, true, true},
		{{.not_permitted = 0x60000}, true, false},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct refusal refusal = rows[i].refusal;

		same("restore", policy_ends_vmm(TRIM_RESTORE, avx_guest, refusal), rows[i].trims);
		same("both", policy_ends_vmm(TRIM_BOTH, avx_guest, refusal), rows[i].trims);
		same("none", policy_ends_vmm(TRIM_NONE, avx_guest, refusal), rows[i].does_not);
		same("save", policy_ends_vmm(TRIM_SAVE, avx_guest, refusal), rows[i].does_not);
	}
	same("FP and SSE", policy_ends_vmm(TRIM_NONE, none, (struct refusal){.guest_lacks = 3}),
	     false);
	same("no CPUID yet",
	     policy_ends_vmm(TRIM_NONE, fresh, (struct refusal){.host_lacks = 0x200}), true);
}

static void diagnose_permission(void)
{
	struct vcpu amx = {VCPU_XCR0, 0, 0x60007, 0};

	same_refusal("AMX that the CPU has but the VMM may not use",
		     diagnose((struct head){0x60007, 0, 0x1f80, 0}, amx, 0x7),
		     (struct refusal){.not_permitted = 0x60000});
	same_refusal("AMX that the CPU does not have",
		     policy_diagnose_xcr0(0x60007, amx, (struct host_caps){0x7, 0x7, 0}),
		     (struct refusal){.host_lacks = 0x60000});
	same_refusal("PKRU needs no permission",
		     policy_diagnose_xcr0(0x207, (struct vcpu){VCPU_XCR0, 0, 0x207, 0},
					  (struct host_caps){0x7, 0x207, 0}),
		     (struct refusal){.host_lacks = 0x200});
	same("refused for every guest",
	     policy_always_refused((struct refusal){.not_permitted = 0x60000}), true);
}

static void diagnose_an_xcr0(void)
{
	struct host_caps host = {0x2e7, 0x2e7, 0};

	same_refusal("avx", policy_diagnose_xcr0(0x7, (struct vcpu){VCPU_XCR0, 0, 0x3, 0}, host),
		     (struct refusal){.guest_lacks = 0x4});
	same_refusal("a guest without XSAVE",
		     policy_diagnose_xcr0(0x3, (struct vcpu){VCPU_XCR0, 0, 0, 0}, host),
		     (struct refusal){.guest_lacks = 0x2});
	same_refusal("a bit that host and guest lack", policy_diagnose_xcr0(0x107, avx_guest, host),
		     (struct refusal){.host_lacks = 0x100, .guest_lacks = 0x100});
}

static void xcr0_that_joins(void)
{
	struct vcpu vcpu = {VCPU_XCR0, 0, 0x3, 0};

	same("newly allowed: AVX, which the CPUID shows", policy_joins(avx_guest, 0x7), 0);
	same("newly allowed: AVX, which the CPUID lacks", policy_joins(vcpu, 0x7), 0x4);
	vcpu.enabled_xcr0 = 0x4;
	same("allowed", policy_allowed(vcpu), 0x7);
	same("newly allowed: AVX, which an earlier XCR0 had", policy_joins(vcpu, 0x7), 0);
	same("newly allowed: AVX, without a CPUID table",
	     policy_joins((struct vcpu){VCPU_NO_CPUID, 0, 0, 0}, 0x7), 0);
	same("lost: AVX, dropped from the payload, then set in XCR0", policy_lost(0x204, 0x7), 0x4);
	same("lost: PKRU, dropped from the payload, not set in XCR0", policy_lost(0x200, 0x7), 0);
}

static void errors_of_no_vcpu(void)
{
	static const int errors[] = {EBADF, ENOTTY, EIO, EINVAL, ENOSYS, EFAULT};

	for (size_t i = 0; i < COUNT(errors); i++)
		same(strerrorname_np(errors[i]), policy_is_no_vcpu(errors[i]), i < 3);
}

const struct test_case policy_cases[] = {
	{"in an XSAVE payload, xsaveshim always allows FP and SSE, and also the xfeatures that the guest's CPUID enumerates",
	 allowed_is_xcr0_fp_sse},
	{"if xsaveshim knows no CPUID table of a guest, it allows every xfeature in the guest's XSAVE payload",
	 allowed_without_xcr0},
	{"if the guest's CPUID enumerates an xfeature, a trim keeps the xfeature in the XSAVE payload",
	 trim_keeps_what_cpuid_has},
	{"if xsaveshim trims the same XSAVE payload twice, the second trim changes nothing",
	 trim_twice},
	{"XSAVESHIM_TRIM selects whether xsaveshim trims restored XSAVE payloads, saved ones, both or neither",
	 trim_settings},
	{"if xsaveshim knows no CPUID table of a guest, it never trims the guest's XSAVE payload",
	 trim_only_what_is_known},
	{"if KVM refuses an XSAVE payload, xsaveshim gives as a reason the payload's xfeatures that the host lacks, except FP and SSE",
	 diagnose_host},
	{"if KVM refuses an XSAVE payload and xsaveshim knows the guest's CPUID table, xsaveshim gives as a reason the payload's xfeatures that the guest lacks",
	 diagnose_guest},
	{"if KVM refuses an XSAVE payload in which XCOMP_BV or a reserved byte is not 0, xsaveshim gives that field as a reason",
	 diagnose_header},
	{"if KVM refuses an XSAVE payload, xsaveshim gives a bad MXCSR as a reason only if XSTATE_BV has FP, SSE or AVX",
	 diagnose_mxcsr},
	{"if KVM refuses an XSAVE payload, xsaveshim gives the guest's lack of FP and SSE as the reason only if there is no other reason",
	 diagnose_fpsse},
	{"if KVM refused a payload only because of FP and SSE, the library adds both to the guest's CPUID, but adds nothing if XSAVESHIM_TRIM is save or none",
	 widen_when},
	{"if KVM refuses an XSAVE payload with AMX, which the host has but the process may not use, xsaveshim gives the missing permission as the reason",
	 diagnose_permission},
	{"with XSAVESHIM_REFUSED=abort, a refused payload ends the VMM except in two cases: the reason is unknown, or the only reason is xfeatures that the guest lacks but XSAVESHIM_TRIM forbids xsaveshim to trim",
	 abort_when},
	{"if KVM refuses an XCR0, xsaveshim gives as the reason the xfeatures in this XCR0 that the guest or the host lacks",
	 diagnose_an_xcr0},
	{"if KVM accepts an XCR0 with xfeatures that the guest's CPUID lacks, xsaveshim allows these xfeatures in later payloads; if an earlier trim dropped one of these xfeatures, xsaveshim counts this xfeature as lost",
	 xcr0_that_joins},
	{"if an ioctl fails with EBADF, ENOTTY or EIO, xsaveshim concludes that the file descriptor is not a vCPU of this process",
	 errors_of_no_vcpu},
	{NULL, NULL},
};
