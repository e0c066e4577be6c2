// SPDX-License-Identifier: MIT
// The core's unit tests: each case is a sentence, and `core SENTENCE` carries it out. `core` alone lists them all.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "xsaveshim/guest_cpuid.h"
#include "xsaveshim/policy.h"
#include "xsaveshim/report.h"
#include "xsaveshim/record.h"
#include "xsaveshim/settings.h"
#include "xsaveshim/vcpus.h"
#include "xsaveshim/xstate.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool failed;

static void same(const char *what, uint64_t got, uint64_t expected)
{
	if (got == expected)
		return;
	printf("%s: got 0x%llx, expected 0x%llx\n", what, (unsigned long long)got, (unsigned long long)expected);
	failed = true;
}

static void same_text(const char *what, const char *got, const char *expected)
{
	if (!strcmp(got, expected))
		return;
	printf("%s: got\n%s\nexpected\n%s\n", what, got, expected);
	failed = true;
}

static void must(bool done, const char *what)
{
	if (done)
		return;
	perror(what);
	exit(2);
}

// ---- leaf 0xD ----

// An entry of leaf 0xD with that subleaf; one whose index does not count; an entry of another leaf.
#define SUBLEAF(number, xcr0) \
	{.function = 0xd, .index = (number), .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, \
	 .eax = (uint32_t)(xcr0), .edx = (uint32_t)((uint64_t)(xcr0) >> 32)}
#define FLAT(number, xcr0) \
	{.function = 0xd, .index = (number), .eax = (uint32_t)(xcr0), .edx = (uint32_t)((uint64_t)(xcr0) >> 32)}
#define OTHER(number) {.function = (number), .eax = 0xff, .ebx = 0xff, .ecx = 0xff, .edx = 0xff}

#define SAME_XCR0(expected, ...) \
	do { \
		const struct kvm_cpuid_entry2 table[] = {__VA_ARGS__}; \
		same("guest XCR0", guest_cpuid_xcr0(table, COUNT(table)), expected); \
	} while (0)

static void xcr0_of_an_empty_table(void)
{
	same("guest XCR0", guest_cpuid_xcr0(NULL, 0), 0);
	same("guest XCR0, v1", guest_cpuid_v1_xcr0(NULL, 0), 0);
}

static void xcr0_without_the_leaf(void)
{
	SAME_XCR0(0, OTHER(0), OTHER(1), OTHER(0xc), OTHER(0xe), OTHER(0x8000000d), OTHER(0x4000000d));
}

static void xcr0_of_subleaf_0(void)
{
	SAME_XCR0(0x207, OTHER(1), SUBLEAF(0, 0x207), OTHER(0x14));
}

static void xcr0_has_edx_above(void)
{
	SAME_XCR0(UINT64_C(0x8000000100000007), SUBLEAF(0, UINT64_C(0x8000000100000007)));
}

static void xcr0_ignores_other_subleaves(void)
{
	SAME_XCR0(0x7, SUBLEAF(1, 0xff), SUBLEAF(2, 0x100), SUBLEAF(0x80000000, 0xff), SUBLEAF(0, 0x7));
}

static void xcr0_of_other_subleaves_alone(void)
{
	SAME_XCR0(0, SUBLEAF(1, 0xff), SUBLEAF(2, 0x100));
}

static void xcr0_of_a_flat_entry(void)
{
	SAME_XCR0(0xe7, FLAT(0, 0xe7));
	SAME_XCR0(0xe7, FLAT(1, 0xe7));
	SAME_XCR0(0xe7, FLAT(0xffffffff, 0xe7));
}

static void xcr0_of_the_first(void)
{
	SAME_XCR0(0x7, SUBLEAF(0, 0x7), SUBLEAF(0, 0xff));
	SAME_XCR0(0x7, FLAT(5, 0x7), SUBLEAF(0, 0xff));
	SAME_XCR0(0xff, SUBLEAF(1, 0x3), SUBLEAF(0, 0xff), FLAT(0, 0x7));
}

static void xcr0_of_a_first_that_is_zero(void)
{
	SAME_XCR0(0, SUBLEAF(0, 0), SUBLEAF(0, 0xff));
}

static void xcr0_ignores_other_flags(void)
{
	SAME_XCR0(0x7, {.function = 0xd, .index = 1, .flags = KVM_CPUID_FLAG_STATEFUL_FUNC, .eax = 0x7});
	SAME_XCR0(0, {.function = 0xd, .index = 1, .flags = ~0U, .eax = 0x7});
}

static void xcr0_of_entry_256(void)
{
	struct kvm_cpuid_entry2 table[GUEST_CPUID_MAX_ENTRIES] = {[GUEST_CPUID_MAX_ENTRIES - 1] = SUBLEAF(0, 0x7)};

	same("all 256", guest_cpuid_xcr0(table, GUEST_CPUID_MAX_ENTRIES), 0x7);
	same("the first 255", guest_cpuid_xcr0(table, GUEST_CPUID_MAX_ENTRIES - 1), 0);
}

static void xcr0_of_an_unaligned_table(void)
{
	const struct kvm_cpuid_entry2 table[] = {OTHER(1), SUBLEAF(0, 0x207)};
	char bytes[sizeof(table) + 3];

	memcpy(bytes + 3, table, sizeof(table));
	same("guest XCR0", guest_cpuid_xcr0(bytes + 3, COUNT(table)), 0x207);
}

static void xcr0_of_v1(void)
{
	const struct kvm_cpuid_entry table[] = {
		{.function = 1, .eax = 0xff, .edx = 0xff},
		{.function = 0xd, .eax = 0x7, .ebx = 0xff, .ecx = 0xff, .edx = 0x1},
		{.function = 0xd, .eax = 0xff},
	};

	same("guest XCR0", guest_cpuid_v1_xcr0(table, COUNT(table)), UINT64_C(0x100000007));
	same("without the leaf", guest_cpuid_v1_xcr0(table, 1), 0);
}

// ---- what KVM_GET_CPUID2 wrote ----

static void count_is_nent(void)
{
	struct guest_cpuid table = {.nent = 2, .entries = {OTHER(0), OTHER(1)}};

	same("count", guest_cpuid_count(&table), 2);
}

static void count_ends_at_the_last_entry(void)
{
	struct guest_cpuid table = {.nent = GUEST_CPUID_MAX_ENTRIES, .entries = {OTHER(0), {.eax = 0}, OTHER(1)}};

	same("count", guest_cpuid_count(&table), 3);
	table.entries[2] = (struct kvm_cpuid_entry2){.padding = {0, 0, 1}};
	same("count with a last entry that has one byte", guest_cpuid_count(&table), 3);
}

static void count_of_nothing(void)
{
	struct guest_cpuid table = {.nent = GUEST_CPUID_MAX_ENTRIES};

	same("count", guest_cpuid_count(&table), 0);
}

static void count_is_at_most_256(void)
{
	struct guest_cpuid table = {.nent = ~0U};

	memset(table.entries, 1, sizeof(table.entries));
	same("count", guest_cpuid_count(&table), GUEST_CPUID_MAX_ENTRIES);
}

// ---- widening leaf 0xD ----

static void widen_adds_to_the_first(void)
{
	struct guest_cpuid table = {.nent = 3, .entries = {SUBLEAF(1, 0), SUBLEAF(0, 0x4), SUBLEAF(0, 0x8)}};
	struct guest_cpuid expected = table;

	expected.entries[1].eax = 0x7;
	expected.entries[1].edx = 0x1;
	same("widened", guest_cpuid_widen(&table, XFEATURE_FPSSE | UINT64_C(1) << 32), true);
	same("difference", memcmp(&table, &expected, sizeof(table)), 0);
}

static void widen_appends_the_leaf(void)
{
	struct guest_cpuid table = {.nent = 1, .entries = {OTHER(1)}};
	struct guest_cpuid expected = {.nent = 2, .entries = {OTHER(1), SUBLEAF(0, XFEATURE_FPSSE)}};

	same("widened", guest_cpuid_widen(&table, XFEATURE_FPSSE), true);
	same("difference", memcmp(&table, &expected, sizeof(table)), 0);
}

static void widen_a_full_table(void)
{
	struct guest_cpuid table = {.nent = GUEST_CPUID_MAX_ENTRIES};
	struct guest_cpuid before;

	for (uint32_t i = 0; i < GUEST_CPUID_MAX_ENTRIES; i++)
		table.entries[i] = (struct kvm_cpuid_entry2)OTHER(i + 0x100);
	before = table;
	same("widened", guest_cpuid_widen(&table, XFEATURE_FPSSE), false);
	same("difference", memcmp(&table, &before, sizeof(table)), 0);
	table.entries[GUEST_CPUID_MAX_ENTRIES - 1] = (struct kvm_cpuid_entry2)SUBLEAF(0, 0);
	same("widened, with the leaf in the last place", guest_cpuid_widen(&table, XFEATURE_FPSSE), true);
	same("nent", table.nent, GUEST_CPUID_MAX_ENTRIES);
}

// ---- the payload ----

// A payload of which every byte tells its place, at an address that is not a multiple of 8.
static unsigned char *odd_payload(void)
{
	static _Alignas(8) unsigned char memory[4096 + 5];
	unsigned char *payload = memory + 5;

	for (size_t i = 0; i < 4096; i++)
		payload[i] = (unsigned char)(i * 7 + i / 256 + 1);
	return payload;
}

static uint64_t bytes_at(const unsigned char *payload, size_t offset, size_t size)
{
	uint64_t value = 0;

	while (size--)
		value = value << 8 | payload[offset + size];
	return value;
}

static void payload_words(void)
{
	unsigned char *payload = odd_payload();

	same("XSTATE_BV", xstate_bv(payload), bytes_at(payload, 512, 8));
	same("XCOMP_BV", xstate_xcomp_bv(payload), bytes_at(payload, 520, 8));
	same("MXCSR", xstate_mxcsr(payload), bytes_at(payload, 24, 4));
}

static void payload_set_bv(void)
{
	unsigned char *payload = odd_payload();
	unsigned char before[4096];

	memcpy(before, payload, sizeof(before));
	xstate_set_bv(payload, UINT64_C(0x8877665544332211));
	for (size_t i = 0; i < sizeof(before); i++) {
		char what[32];

		snprintf(what, sizeof(what), "byte %zu", i);
		same(what, payload[i], i >= 512 && i < 520 ? (i - 511) * 0x11 : before[i]);
	}
}

static void payload_reserved(void)
{
	unsigned char payload[XSTATE_HEAD_SIZE] = {0};

	same("all 0", xstate_reserved_used(payload), false);
	memset(payload, 0xff, 528);
	same("the bytes before", xstate_reserved_used(payload), false);
	for (size_t i = 528; i < 576; i++) {
		payload[i] = 0x80;
		same("a byte of 528 to 575", xstate_reserved_used(payload), true);
		payload[i] = 0;
	}
}

static void xfeature_names(void)
{
	static const char *const expected[] = {"x87", "sse", "avx", "bndregs", "bndcsr", "opmask", "zmm_hi256",
		"hi16_zmm", "pt", "pkru", "pasid", "cet_u", "cet_s", "hdc", "uintr", "lbr", "hwp", "xtilecfg",
		"xtiledata", "apx"};

	for (unsigned int bit = 0; bit < 70; bit++) {
		if (bit < COUNT(expected))
			same_text("name", xfeature_name(bit) ? xfeature_name(bit) : "none", expected[bit]);
		else
			same("a bit without a name", xfeature_name(bit) != NULL, false);
	}
}

// What the kernel found and enabled, as it tells every process.
static void host_features(void)
{
	char line[8192];
	bool avx = false;
	FILE *cpuinfo = fopen("/proc/cpuinfo", "re");

	must(cpuinfo, "/proc/cpuinfo");
	while (fgets(line, sizeof(line), cpuinfo))
		avx |= !strncmp(line, "flags", 5) && strstr(line, " avx ");
	fclose(cpuinfo);
	same("FP and SSE", xstate_host_xcr0() & XFEATURE_FPSSE, XFEATURE_FPSSE);
	same("AVX", xstate_host_xcr0() & XFEATURE_AVX, avx ? XFEATURE_AVX : 0);
	same("bit 63, which XCR0 never has", xstate_host_xcr0() >> 63, 0);
}

static void host_mxcsr(void)
{
	uint32_t reserved = xstate_host_mxcsr_reserved();
	uint32_t initial = 0x1f80;
	uint32_t most = ~reserved;

	same("the initial value's bits", reserved & initial, 0);
	// Bit 17 is AMD's misaligned exception mask.
	same("the upper half", reserved & 0xfffd0000, 0xfffd0000);
	// A reserved bit among them is fatal here.
	__asm__ volatile("ldmxcsr %0" : : "m"(most));
	__asm__ volatile("ldmxcsr %0" : : "m"(initial));
}

// ---- the vCPU table ----

static struct vcpus vcpus;

static void same_vcpu(const char *what, struct vcpu got, struct vcpu expected)
{
	char text[64];

	snprintf(text, sizeof(text), "%s, knowledge", what);
	same(text, got.knowledge, expected.knowledge);
	snprintf(text, sizeof(text), "%s, id", what);
	same(text, (uint64_t)got.id, (uint64_t)expected.id);
	snprintf(text, sizeof(text), "%s, guest XCR0", what);
	same(text, got.guest_xcr0, expected.guest_xcr0);
}

static const struct vcpu unknown = {VCPU_UNKNOWN, VCPU_ID_UNKNOWN, 0};

static void vcpus_start_unknown(void)
{
	for (int fd = 0; fd < VCPUS_MAX; fd++)
		same_vcpu("a descriptor inside", vcpus_get(&vcpus, fd), unknown);
}

static void vcpus_keep(void)
{
	static const struct vcpu kept[] = {
		{VCPU_NO_CPUID, 0, 0},
		{VCPU_NO_CPUID, VCPU_ID_UNKNOWN, 0},
		{VCPU_XCR0, 0, 0},
		{VCPU_XCR0, 4095, 0x207},
		{VCPU_XCR0, 65534, UINT64_C(0x3fffffffffff)},
		{VCPU_XCR0, VCPU_ID_UNKNOWN, UINT64_C(0x200000000000)},
		{VCPU_UNKNOWN, 3, 0},
	};

	for (size_t i = 0; i < COUNT(kept); i++) {
		vcpus_set(&vcpus, 14, kept[i]);
		same_vcpu("as set", vcpus_get(&vcpus, 14), kept[i]);
	}
	same_vcpu("the one before", vcpus_get(&vcpus, 13), unknown);
	same_vcpu("the one after", vcpus_get(&vcpus, 15), unknown);
}

static void vcpus_ends(void)
{
	const struct vcpu vcpu = {VCPU_XCR0, 1, 0x7};

	vcpus_set(&vcpus, 0, vcpu);
	vcpus_set(&vcpus, VCPUS_MAX - 1, vcpu);
	same_vcpu("fd 0", vcpus_get(&vcpus, 0), vcpu);
	same_vcpu("fd 65535", vcpus_get(&vcpus, VCPUS_MAX - 1), vcpu);
}

static void vcpus_outside(void)
{
	static const int outside[] = {-1, -4096, VCPUS_MAX, VCPUS_MAX + 7, 0x7fffffff, -0x7fffffff - 1};

	for (size_t i = 0; i < COUNT(outside); i++) {
		vcpus_set(&vcpus, outside[i], (struct vcpu){VCPU_XCR0, 1, 0x7});
		same_vcpu("outside", vcpus_get(&vcpus, outside[i]), unknown);
	}
	vcpus_start_unknown();
}

static void vcpus_bits_above_45(void)
{
	vcpus_set(&vcpus, 14, (struct vcpu){VCPU_XCR0, 1, 0x7});
	vcpus_set(&vcpus, 14, (struct vcpu){VCPU_XCR0, 1, UINT64_C(1) << 46});
	same_vcpu("bit 46", vcpus_get(&vcpus, 14), unknown);
	vcpus_set(&vcpus, 14, (struct vcpu){VCPU_XCR0, 1, UINT64_C(1) << 63 | 0x7});
	same_vcpu("bit 63", vcpus_get(&vcpus, 14), unknown);
}

// ---- the rule ----

static void allowed_is_xcr0_fp_sse(void)
{
	same("0", policy_allowed((struct vcpu){VCPU_XCR0, 0, 0}), 0x3);
	same("avx", policy_allowed((struct vcpu){VCPU_XCR0, 0, 0x4}), 0x7);
	same("0x2e7", policy_allowed((struct vcpu){VCPU_XCR0, 0, 0x2e7}), 0x2e7);
	same("bit 63", policy_allowed((struct vcpu){VCPU_XCR0, 0, UINT64_C(1) << 63}), UINT64_C(1) << 63 | 0x3);
}

static void allowed_without_xcr0(void)
{
	same("unknown", policy_allowed((struct vcpu){VCPU_UNKNOWN, 0, 0}), UINT64_MAX);
	same("no CPUID yet", policy_allowed((struct vcpu){VCPU_NO_CPUID, 0, 0}), UINT64_MAX);
}

static void trim_keeps_what_cpuid_has(void)
{
	struct vcpu vcpu = {VCPU_XCR0, 0, UINT64_C(0x4000000e7)};
	struct trim trim = policy_trim(TRIM_RESTORE, XSAVE_RESTORE, vcpu, UINT64_C(0x4000002ff));

	same("XSTATE_BV", trim.xstate_bv, UINT64_C(0x4000002ff));
	same("allowed", trim.allowed, UINT64_C(0x4000000e7));
	same("written", trim.written, UINT64_C(0x4000000e7));
}

static void trim_twice(void)
{
	for (uint64_t bv = 0; bv < 1024; bv++) {
		for (uint64_t xcr0 = 0; xcr0 < 1024; xcr0 += 31) {
			struct vcpu vcpu = {VCPU_XCR0, 0, xcr0};
			uint64_t once = policy_trim(TRIM_RESTORE, XSAVE_RESTORE, vcpu, bv).written;

			same("once", once, bv & (xcr0 | 3));
			same("twice", policy_trim(TRIM_RESTORE, XSAVE_RESTORE, vcpu, once).written, once);
		}
	}
}

static void trim_modes(void)
{
	static const struct {
		enum trim_mode mode;
		uint64_t restored, saved;
	} rows[] = {
		{TRIM_RESTORE, 0x3, 0x207}, {TRIM_SAVE, 0x207, 0x3}, {TRIM_BOTH, 0x3, 0x3}, {TRIM_NONE, 0x207, 0x207}};
	struct vcpu vcpu = {VCPU_XCR0, 0, 0};

	for (size_t i = 0; i < COUNT(rows); i++) {
		same("restored", policy_trim(rows[i].mode, XSAVE_RESTORE, vcpu, 0x207).written, rows[i].restored);
		same("saved", policy_trim(rows[i].mode, XSAVE_SAVE, vcpu, 0x207).written, rows[i].saved);
		same("allowed", policy_trim(rows[i].mode, XSAVE_RESTORE, vcpu, 0x207).allowed, 0x3);
	}
}

static void trim_only_what_is_known(void)
{
	struct vcpu fresh = {VCPU_NO_CPUID, 0, 0};

	same("unknown", policy_trim(TRIM_BOTH, XSAVE_RESTORE, unknown, UINT64_MAX).written, UINT64_MAX);
	same("no CPUID yet", policy_trim(TRIM_BOTH, XSAVE_RESTORE, fresh, UINT64_MAX).written, UINT64_MAX);
	same("saved", policy_trim(TRIM_BOTH, XSAVE_SAVE, fresh, UINT64_MAX).written, UINT64_MAX);
}

// ---- why KVM refused ----

// A head that every KVM takes, but for what is set in it.
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
	return policy_diagnose(payload, vcpu, (struct host){xfeatures, xstate_host_mxcsr_reserved()});
}

static void same_refusal(const char *what, struct refusal got, struct refusal expected)
{
	char text[64];

	snprintf(text, sizeof(text), "%s, host lacks", what);
	same(text, got.host_lacks, expected.host_lacks);
	snprintf(text, sizeof(text), "%s, guest lacks", what);
	same(text, got.guest_lacks, expected.guest_lacks);
	snprintf(text, sizeof(text), "%s, XCOMP_BV", what);
	same(text, got.xcomp_bv, expected.xcomp_bv);
	snprintf(text, sizeof(text), "%s, reserved bytes", what);
	same(text, got.reserved_bytes, expected.reserved_bytes);
	snprintf(text, sizeof(text), "%s, MXCSR", what);
	same(text, got.mxcsr, expected.mxcsr);
}

static const struct vcpu avx_guest = {VCPU_XCR0, 0, 0x7};

static void diagnose_host(void)
{
	struct vcpu big = {VCPU_XCR0, 0, 0xe7};

	same_refusal("zmm", diagnose((struct head){0xe7, 0, 0x1f80, 0}, big, 0x7), (struct refusal){.host_lacks = 0xe0});
	same_refusal("x87, sse", diagnose((struct head){0x3, 0, 0x1f80, 0}, avx_guest, 0), (struct refusal){0});
}

static void diagnose_guest(void)
{
	same_refusal("pkru", diagnose((struct head){0x207, 0, 0x1f80, 0}, avx_guest, 0x2e7),
		     (struct refusal){.guest_lacks = 0x200});
	same_refusal("nothing known of the guest", diagnose((struct head){0x207, 0, 0x1f80, 0}, unknown, 0x2e7),
		     (struct refusal){0});
	same_refusal("no CPUID yet",
		     diagnose((struct head){0x207, 0, 0x1f80, 0}, (struct vcpu){VCPU_NO_CPUID, 0, 0}, 0x2e7),
		     (struct refusal){0});
}

static void diagnose_header(void)
{
	same_refusal("XCOMP_BV", diagnose((struct head){0x7, UINT64_C(1) << 63 | 7, 0x1f80, 0}, avx_guest, 0x7),
		     (struct refusal){.xcomp_bv = UINT64_C(1) << 63 | 7});
	same_refusal("reserved", diagnose((struct head){0x7, 0, 0x1f80, 1}, avx_guest, 0x7),
		     (struct refusal){.reserved_bytes = true});
}

static void diagnose_mxcsr(void)
{
	struct refusal bad = {.mxcsr = 0x80000000};

	same_refusal("x87", diagnose((struct head){0x1, 0, 0x80001f80, 0}, avx_guest, 0x7), bad);
	same_refusal("sse", diagnose((struct head){0x2, 0, 0x80001f80, 0}, avx_guest, 0x7), bad);
	same_refusal("avx", diagnose((struct head){0x4, 0, 0x80001f80, 0}, avx_guest, 0x7), bad);
	same_refusal("none of them", diagnose((struct head){0, 0, 0x80001f80, 0}, avx_guest, 0x7), (struct refusal){0});
}

static void diagnose_fpsse(void)
{
	struct vcpu none = {VCPU_XCR0, 0, 0};

	same_refusal("alone", diagnose((struct head){0x3, 0, 0x1f80, 0}, none, 0x207),
		     (struct refusal){.guest_lacks = 0x3});
	same_refusal("beside pkru", diagnose((struct head){0x203, 0, 0x1f80, 0}, none, 0x207),
		     (struct refusal){.guest_lacks = 0x200});
	same_refusal("beside a host's lack", diagnose((struct head){0x103, 0, 0x1f80, 0}, none, 0x7),
		     (struct refusal){.host_lacks = 0x100, .guest_lacks = 0x100});
	same_refusal("beside a lack of the host's alone",
		     diagnose((struct head){0x103, 0, 0x1f80, 0}, (struct vcpu){VCPU_XCR0, 0, 0x100}, 0x7),
		     (struct refusal){.host_lacks = 0x100});
	same_refusal("beside XCOMP_BV", diagnose((struct head){0x3, 1, 0x1f80, 0}, none, 0x7),
		     (struct refusal){.xcomp_bv = 1});
	same_refusal("beside a reserved byte", diagnose((struct head){0x3, 0, 0x1f80, 1}, none, 0x7),
		     (struct refusal){.reserved_bytes = true});
	same_refusal("beside MXCSR", diagnose((struct head){0x3, 0, 0x80000000, 0}, none, 0x7),
		     (struct refusal){.mxcsr = 0x80000000});
}

static void widen_when(void)
{
	struct refusal fpsse = {.guest_lacks = 0x3};

	same("restore", policy_refused_fpsse_alone(TRIM_RESTORE, fpsse), true);
	same("both", policy_refused_fpsse_alone(TRIM_BOTH, fpsse), true);
	same("save", policy_refused_fpsse_alone(TRIM_SAVE, fpsse), false);
	same("none", policy_refused_fpsse_alone(TRIM_NONE, fpsse), false);
	same("pkru", policy_refused_fpsse_alone(TRIM_RESTORE, (struct refusal){.guest_lacks = 0x200}), false);
	same("nothing known", policy_refused_fpsse_alone(TRIM_RESTORE, (struct refusal){0}), false);
}

// ---- reports ----

static int report_pipe[2];
static char report_text_read[4096];

static struct log piped_log(enum log_level level)
{
	must(!pipe2(report_pipe, O_CLOEXEC | O_NONBLOCK), "pipe2");
	return (struct log){.fd = report_pipe[1], .fallback_fd = -1, .level = level};
}

// What one read(2) finds there; "" for nothing.
static const char *read_text(int fd)
{
	ssize_t size = read(fd, report_text_read, sizeof(report_text_read) - 1);

	report_text_read[size > 0 ? size : 0] = '\0';
	return report_text_read;
}

static const struct vcpu_call restore_call = {"KVM_SET_XSAVE", 14, {VCPU_XCR0, 0, 0}};

static void report_a_trim(void)
{
	struct log log = piped_log(LOG_LEVEL_NOTICE);

	report_trim(&log, restore_call, (struct trim){0x217, 0x3, 0x3});
	same_text("line", read_text(report_pipe[0]),
		  "xsaveshim: level=notice event=trim ioctl=KVM_SET_XSAVE vcpu=0 fd=14 xstate_bv=0x217 allowed=0x3 "
		  "written=0x3 dropped=avx,bndcsr,pkru\n");
}

static void report_a_would_be_trim(void)
{
	struct log log = piped_log(LOG_LEVEL_NOTICE);
	struct vcpu_call call = {"KVM_GET_XSAVE2", 9, {VCPU_XCR0, VCPU_ID_UNKNOWN, 0}};

	log.via = "supervisor";
	report_trim(&log, call, (struct trim){UINT64_C(0x8000000000000001), 0x3, UINT64_C(0x8000000000000001)});
	same_text("line", read_text(report_pipe[0]),
		  "xsaveshim: level=notice event=would-trim via=supervisor ioctl=KVM_GET_XSAVE2 vcpu=? fd=9 "
		  "xstate_bv=0x8000000000000001 allowed=0x3 written=0x8000000000000001 dropped=bit63\n");
}

static void report_no_trim(void)
{
	struct log log = piped_log(LOG_LEVEL_DEBUG);

	report_trim(&log, restore_call, (struct trim){0x3, 0x7, 0x3});
	same_text("line", read_text(report_pipe[0]), "");
}

static void report_a_refusal(void)
{
	static const struct {
		struct refusal refusal;
		const char *reason;
	} rows[] = {
		{{.host_lacks = 0xe0}, "host-lacks:opmask,zmm_hi256,hi16_zmm"},
		{{.guest_lacks = 0x200}, "guest-lacks:pkru"},
		{{.xcomp_bv = 0x7}, "xcomp-bv:0x7"},
		{{.reserved_bytes = true}, "reserved-bytes"},
		{{.mxcsr = 0x10000}, "mxcsr:0x10000"},
		{{.host_lacks = 0x100}, "host-lacks:pt"},
		{{0}, "unknown"},
		{{0x1, 0x2, 0x3, true, 0x4}, "host-lacks:x87;guest-lacks:sse;xcomp-bv:0x3;reserved-bytes;mxcsr:0x4"},
	};
	struct log log = piped_log(LOG_LEVEL_NOTICE);

	for (size_t i = 0; i < COUNT(rows); i++) {
		char expected[256];

		snprintf(expected, sizeof(expected), "xsaveshim: level=error event=refused ioctl=KVM_SET_XSAVE vcpu=0 "
			 "fd=14 errno=EINVAL xstate_bv=0xe7 reason=%s\n", rows[i].reason);
		report_refused(&log, restore_call, EINVAL, 0xe7, rows[i].refusal);
		same_text("line", read_text(report_pipe[0]), expected);
	}
}

static void report_other_errors(void)
{
	static const struct {
		int error;
		const char *name;
	} rows[] = {
		{EFAULT, "EFAULT"}, {EIO, "EIO"}, {EINTR, "EINTR"}, {ENOMEM, "ENOMEM"}, {ENOSYS, "ENOSYS"},
		{EPERM, "EPERM"}, {EACCES, "EACCES"}, {EBADF, "EBADF"}, {ENOTTY, "ENOTTY"}, {EDOM, "33"}};
	struct log log = piped_log(LOG_LEVEL_NOTICE);

	for (size_t i = 0; i < COUNT(rows); i++) {
		char expected[256];

		snprintf(expected, sizeof(expected), "xsaveshim: level=error event=refused ioctl=KVM_SET_XSAVE vcpu=0 "
			 "fd=14 errno=%s xstate_bv=0x3 reason=not-the-payload\n", rows[i].name);
		report_refused(&log, restore_call, rows[i].error, 0x3, (struct refusal){.host_lacks = 1});
		same_text("line", read_text(report_pipe[0]), expected);
	}
}

static void report_what_was_learned(void)
{
	struct log log = piped_log(LOG_LEVEL_DEBUG);

	report_learn(&log, (struct vcpu_call){"KVM_CREATE_VCPU", 14, {VCPU_NO_CPUID, 2, 0}});
	same_text("a new vCPU", read_text(report_pipe[0]),
		  "xsaveshim: level=debug event=learn ioctl=KVM_CREATE_VCPU vcpu=2 fd=14\n");
	report_learn(&log, (struct vcpu_call){"KVM_SET_CPUID2", 14, {VCPU_XCR0, 2, 0x204}});
	same_text("its CPUID", read_text(report_pipe[0]),
		  "xsaveshim: level=debug event=learn ioctl=KVM_SET_CPUID2 vcpu=2 fd=14 guest_xcr0=0x204 allowed=0x207\n");
}

static void report_levels(void)
{
	// Which of an error, a notice and a debug line is there.
	static const bool expected[][3] = {
		[LOG_LEVEL_ERROR] = {true, false, false},
		[LOG_LEVEL_NOTICE] = {true, true, false},
		[LOG_LEVEL_DEBUG] = {true, true, true},
	};

	for (enum log_level level = LOG_LEVEL_NOTICE; level <= LOG_LEVEL_DEBUG; level++) {
		struct log log = piped_log(level);

		report_refused(&log, restore_call, EINVAL, 0x3, (struct refusal){0});
		same("error", strlen(read_text(report_pipe[0])) > 0, expected[level][0]);
		report_trim(&log, restore_call, (struct trim){0x217, 0x3, 0x3});
		same("notice", strlen(read_text(report_pipe[0])) > 0, expected[level][1]);
		report_learn(&log, restore_call);
		same("debug", strlen(read_text(report_pipe[0])) > 0, expected[level][2]);
	}
}

static void report_quotes(void)
{
	static const struct {
		const char *value, *expected;
	} rows[] = {
		{"plain-1.0/x:y,z;?", "plain-1.0/x:y,z;?"},
		{"", "\"\""},
		{"two words", "\"two words\""},
		{"a=b", "\"a=b\""},
		{"say \"hi\" \\", "\"say ?hi? ?\""},
		{"two\nlines\t", "\"two?lines?\""},
		{"\xc3\xa9\x7f", "\"???\""},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct log log = piped_log(LOG_LEVEL_NOTICE);
		struct report_line line;
		char expected[128];

		snprintf(expected, sizeof(expected), "xsaveshim: level=notice event=test key=%s\n", rows[i].expected);
		report_begin(&line, &log, LOG_LEVEL_NOTICE, "test");
		report_text(&line, "key", rows[i].value);
		report_send(&line);
		same_text("line", read_text(report_pipe[0]), expected);
	}
}

static void report_numbers(void)
{
	struct log log = piped_log(LOG_LEVEL_NOTICE);
	struct report_line line;

	report_begin(&line, &log, LOG_LEVEL_NOTICE, "test");
	report_int(&line, "zero", 0);
	report_int(&line, "least", -2147483647 - 1);
	report_int(&line, "most", 2147483647);
	report_hex(&line, "none", 0);
	report_hex(&line, "all", UINT64_MAX);
	report_send(&line);
	same_text("line", read_text(report_pipe[0]),
		  "xsaveshim: level=notice event=test zero=0 least=-2147483648 most=2147483647 none=0x0 "
		  "all=0xffffffffffffffff\n");
}

static void report_the_longest(void)
{
	struct log log = piped_log(LOG_LEVEL_NOTICE);
	struct vcpu_call call = {"KVM_SET_XSAVE", -2147483647 - 1, {VCPU_XCR0, 2147483647, 0}};
	const char *line;
	size_t bits = 1;

	report_trim(&log, call, (struct trim){UINT64_MAX, 0, UINT64_MAX});
	line = read_text(report_pipe[0]);
	for (const char *c = line; *c; c++)
		bits += *c == ',';
	same("names", bits, 64);
	same("whole", strlen(line) > 7 && !strcmp(line + strlen(line) - 7, ",bit63\n"), true);
}

static void report_cut(void)
{
	struct log log = piped_log(LOG_LEVEL_NOTICE);
	struct report_line line;
	char word[400];
	const char *text;

	memset(word, 'w', sizeof(word));
	word[sizeof(word) - 1] = '\0';
	report_begin(&line, &log, LOG_LEVEL_NOTICE, "test");
	for (int i = 0; i < 4; i++)
		report_text(&line, "word", word);
	report_send(&line);
	text = read_text(report_pipe[0]);
	same("length", strlen(text), sizeof(line.text));
	same("newlines", strchr(text, '\n') == text + strlen(text) - 1, true);
}

static void report_nowhere(void)
{
	struct log log = {.fd = -1, .fallback_fd = -1, .level = LOG_LEVEL_DEBUG};
	struct report_line line;

	report_begin(&line, &log, LOG_LEVEL_ERROR, "test");
	report_text(&line, "key", "value");
	same("length", line.length, 0);
	errno = 99;
	report_send(&line);
	report_trim(&log, restore_call, (struct trim){0x217, 0x3, 0x3});
	same("errno", (uint64_t)errno, 99);
}

static void report_to_a_full_disk(void)
{
	struct log log = piped_log(LOG_LEVEL_NOTICE);

	log.fallback_fd = log.fd;
	log.fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	must(log.fd >= 0, "/dev/full");
	errno = 99;
	report_trim(&log, restore_call, (struct trim){0x217, 0x3, 0x3});
	same("errno", (uint64_t)errno, 99);
	same("line", strlen(read_text(report_pipe[0])) > 0, true);
	log.fallback_fd = -1;
	report_trim(&log, restore_call, (struct trim){0x217, 0x3, 0x3});
	same("errno", (uint64_t)errno, 99);
}

static void report_to_syslog(void)
{
	static const struct {
		enum log_level level;
		const char *expected;
	} rows[] = {
		{LOG_LEVEL_NOTICE, "<29>xsaveshim: level=notice event=test"},
		{LOG_LEVEL_ERROR, "<27>xsaveshim: level=error event=test"},
		{LOG_LEVEL_DEBUG, "<31>xsaveshim: level=debug event=test"},
	};
	struct log log = piped_log(LOG_LEVEL_DEBUG);
	int sockets[2];

	must(!socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets), "socketpair");
	log.fallback_fd = log.fd;
	log.fd = sockets[0];
	log.syslog = true;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct report_line line;

		report_begin(&line, &log, rows[i].level, "test");
		report_send(&line);
		same_text("datagram", read_text(sockets[1]), rows[i].expected);
	}
	close(sockets[1]);
	report_trim(&log, restore_call, (struct trim){0x217, 0x3, 0x3});
	same("the line, after syslog has gone", strlen(read_text(report_pipe[0])) > 0, true);
}

// ---- opening the log ----

// A directory that every system has and few use.
#define SCRATCH "/media"

// An empty directory in this one's place, for this process alone.
static void hide(const char *directory)
{
	static bool own;

	if (!own)
		must(!unshare(CLONE_NEWNS) || !unshare(CLONE_NEWUSER | CLONE_NEWNS), "unshare(CLONE_NEWNS)");
	own = true;
	must(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount --make-rprivate /");
	must(!mount("none", directory, "tmpfs", 0, NULL), directory);
}

// Standard error becomes a pipe, whose other end is returned.
static int catch_stderr(void)
{
	int ends[2];

	must(!pipe2(ends, O_CLOEXEC | O_NONBLOCK) && dup2(ends[1], STDERR_FILENO) >= 0, "pipe2");
	return ends[0];
}

static struct settings settings_with(enum setting setting, const char *value)
{
	struct settings settings;

	settings_init(&settings);
	same("taken", settings_set(&settings, setting, value), true);
	return settings;
}

// As a front door opens its log.
static void open_log(struct log *log, const struct settings *settings)
{
	int error = log_open(log, settings->log, settings->log_path, settings->log_level);

	if (error)
		report_log_failure(log, settings_text(settings, SETTING_LOG), error);
	report_settings(log, settings);
}

static void open_stderr(void)
{
	struct settings settings = settings_with(SETTING_LOG, "stderr");
	struct log log = {0};

	open_log(&log, &settings);
	same("fd", (uint64_t)log.fd, STDERR_FILENO);
	same("fallback", (uint64_t)log.fallback_fd, (uint64_t)-1);
}

static void open_without_stderr(void)
{
	struct settings settings = settings_with(SETTING_LOG, "stderr");
	struct log log = {0};

	close(STDERR_FILENO);
	open_log(&log, &settings);
	same("fd", (uint64_t)log.fd, (uint64_t)-1);
}

static void open_none(void)
{
	struct settings settings = settings_with(SETTING_LOG, "none");
	struct log log = {0};

	open_log(&log, &settings);
	same("fd", (uint64_t)log.fd, (uint64_t)-1);
}

static void open_a_file(void)
{
	struct settings settings;
	struct log log = {0};
	struct stat status;

	hide(SCRATCH);
	umask(0);
	settings = settings_with(SETTING_LOG, SCRATCH "/log");
	for (int i = 0; i < 2; i++) {
		open_log(&log, &settings);
		report_trim(&log, restore_call, (struct trim){0x217, 0x3, 0x3});
		close(log.fd);
	}
	must(!stat(SCRATCH "/log", &status), SCRATCH "/log");
	same("mode", status.st_mode & 07777, 0600);
	same("two lines of the same length", (uint64_t)status.st_size % 2, 0);
	same("appended", status.st_size > 200, true);
	same("out of the way", log.fd >= 1000, true);
	same("fallback", (uint64_t)log.fallback_fd, STDERR_FILENO);
	same("closed by exec", (uint64_t)fcntl(log.fd, F_GETFD), (uint64_t)-1);
	open_log(&log, &settings);
	same("closed by exec", (uint64_t)fcntl(log.fd, F_GETFD), FD_CLOEXEC);
}

static void open_a_link(void)
{
	struct settings settings;
	struct log log = {0};
	int caught;

	hide(SCRATCH);
	must(!symlink(SCRATCH "/elsewhere", SCRATCH "/log"), "symlink");
	settings = settings_with(SETTING_LOG, SCRATCH "/log");
	caught = catch_stderr();
	open_log(&log, &settings);
	same_text("line", read_text(caught), "xsaveshim: level=error event=log target=" SCRATCH "/log "
		  "error=\"Too many levels of symbolic links\" using=stderr\n");
	same("fd", (uint64_t)log.fd, STDERR_FILENO);
	same("a file where the link leads", access(SCRATCH "/elsewhere", F_OK) == 0, false);
}

static void open_syslog_socket(void)
{
	const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
	struct settings settings = settings_with(SETTING_LOG, "syslog");
	struct log log = {0};
	int server;

	hide("/dev");
	server = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	must(!bind(server, (const struct sockaddr *)&address, sizeof(address)), "/dev/log");
	open_log(&log, &settings);
	same("syslog", log.syslog, true);
	report_trim(&log, restore_call, (struct trim){0x217, 0x3, 0x3});
	same("datagram", !strncmp(read_text(server), "<29>xsaveshim: level=notice event=trim", 38), true);
}

static void open_without_syslog(void)
{
	struct settings settings = settings_with(SETTING_LOG, "syslog");
	struct log log = {0};
	int caught;

	hide("/dev");
	caught = catch_stderr();
	open_log(&log, &settings);
	same_text("line", read_text(caught), "xsaveshim: level=error event=log target=syslog "
		  "error=\"No such file or directory\" using=stderr\n");
	same("syslog", log.syslog, false);
	same("fd", (uint64_t)log.fd, STDERR_FILENO);
}

static void open_reports_problems(void)
{
	static const char text[] = "XSAVESHIM_TRIM=all of it\nnonsense\n";
	struct settings settings;
	struct log log = {0};
	int caught = catch_stderr();

	settings_init(&settings);
	settings_apply_file(&settings, text, strlen(text), "/etc/xsaveshim.conf");
	open_log(&log, &settings);
	same_text("lines", read_text(caught),
		  "xsaveshim: level=error event=setting source=/etc/xsaveshim.conf line=1 key=XSAVESHIM_TRIM "
		  "value=\"all of it\" using=restore accepted=restore,save,both,none\n"
		  "xsaveshim: level=error event=setting source=/etc/xsaveshim.conf line=2 key=nonsense value=\"\" "
		  "using=nothing-of-it\n");
}

static void open_counts_problems(void)
{
	static const char text[] = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n";
	struct settings settings;
	struct log log = {0};
	int caught = catch_stderr();
	const char *lines;

	settings_init(&settings);
	settings_apply_file(&settings, text, strlen(text), "file");
	open_log(&log, &settings);
	lines = read_text(caught);
	same("the eighth", strstr(lines, "line=8 ") != NULL, true);
	same("the ninth", strstr(lines, "line=9 ") != NULL, false);
	same("the rest", strstr(lines, "event=setting further-problems=3\n") != NULL, true);
}

// ---- the record ----

static void record_keeps(void)
{
	static struct xsaveshim_record record = {.mark = RECORD_MARK};
	struct settings in, out;

	settings_init(&in);
	settings_set(&in, SETTING_TRIM, "both");
	settings_set(&in, SETTING_REFUSED, "abort");
	settings_set(&in, SETTING_LOG, "/a/log");
	settings_set(&in, SETTING_LOG_LEVEL, "debug");
	record_publish(&record, &in);
	same("read", record_settings(&record, record.log_path, &out), true);
	for (enum setting setting = 0; setting < SETTINGS; setting++)
		same_text(settings_key(setting), settings_text(&out, setting), settings_text(&in, setting));
	same("vCPU seen", record.vcpu_seen, 0);
	record_vcpu(&record);
	same("vCPU seen", record.vcpu_seen, 1);
}

static void record_of_another_version(void)
{
	static struct xsaveshim_record record = {.mark = RECORD_MARK};
	const char path[PATH_MAX] = "";
	struct settings settings;

	same("not published", record_settings(&record, path, &settings), false);
	record.version = RECORD_VERSION + 1;
	same("newer", record_settings(&record, path, &settings), false);
	record.version = RECORD_VERSION;
	same("this one", record_settings(&record, path, &settings), true);
}

static void record_of_anything(void)
{
	static struct xsaveshim_record record;
	uint32_t *const values[] = {&record.trim, &record.refused, &record.log, &record.log_level};
	const uint32_t too_large[] = {TRIM_NONE + 1, REFUSED_ABORT + 1, LOG_PATH + 1, LOG_LEVEL_DEBUG + 1};
	char path[PATH_MAX];
	struct settings settings;

	memset(path, 'x', sizeof(path));
	record.version = RECORD_VERSION;
	for (size_t i = 0; i < 4; i++) {
		*values[i] = too_large[i];
		same("too large by one", record_settings(&record, path, &settings), false);
		*values[i] = UINT32_MAX;
		same("too large", record_settings(&record, path, &settings), false);
		*values[i] = 0;
	}
	same("read", record_settings(&record, path, &settings), true);
	same("length of the path", strlen(settings.log_path), sizeof(settings.log_path) - 1);
}

// ---- settings ----

static void settings_defaults(void)
{
	struct settings settings;

	memset(&settings, 0xff, sizeof(settings));
	settings_init(&settings);
	same_text("trim", settings_text(&settings, SETTING_TRIM), "restore");
	same_text("refused", settings_text(&settings, SETTING_REFUSED), "report");
	same_text("log", settings_text(&settings, SETTING_LOG), "stderr");
	same_text("log level", settings_text(&settings, SETTING_LOG_LEVEL), "notice");
	same("problems", settings.problems, 0);
}

static void settings_values(void)
{
	static const struct {
		enum setting setting;
		const char *text;
		unsigned int value;
	} rows[] = {
		{SETTING_TRIM, "restore", TRIM_RESTORE}, {SETTING_TRIM, "save", TRIM_SAVE},
		{SETTING_TRIM, "both", TRIM_BOTH}, {SETTING_TRIM, "none", TRIM_NONE},
		{SETTING_REFUSED, "report", REFUSED_REPORT}, {SETTING_REFUSED, "abort", REFUSED_ABORT},
		{SETTING_LOG, "stderr", LOG_STDERR}, {SETTING_LOG, "syslog", LOG_SYSLOG},
		{SETTING_LOG, "none", LOG_NONE}, {SETTING_LOG, "/a/path", LOG_PATH},
		{SETTING_LOG_LEVEL, "notice", LOG_LEVEL_NOTICE}, {SETTING_LOG_LEVEL, "error", LOG_LEVEL_ERROR},
		{SETTING_LOG_LEVEL, "debug", LOG_LEVEL_DEBUG},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct settings settings = settings_with(rows[i].setting, rows[i].text);

		const unsigned int values[SETTINGS] = {settings.trim, settings.refused, settings.log, settings.log_level};

		same(rows[i].text, values[rows[i].setting], rows[i].value);
		same_text("as text", settings_text(&settings, rows[i].setting), rows[i].text);
	}
}

static void settings_refuse(void)
{
	static const char *const bad[] = {"", "Restore", "restore ", "restor", "restoree", "relative/path", "0"};
	struct settings settings;

	settings_init(&settings);
	for (enum setting setting = 0; setting < SETTINGS; setting++)
		for (size_t i = 0; i < COUNT(bad); i++)
			same(bad[i], settings_set(&settings, setting, bad[i]), false);
	same("a path, elsewhere", settings_set(&settings, SETTING_TRIM, "/path"), false);
}

static void settings_longest_path(void)
{
	struct settings settings;
	char path[PATH_MAX + 1];

	settings_init(&settings);
	memset(path, 'p', sizeof(path));
	path[0] = '/';
	path[PATH_MAX] = '\0';
	same("4096 characters", settings_set(&settings, SETTING_LOG, path), false);
	same("log", settings.log, LOG_STDERR);
	path[PATH_MAX - 1] = '\0';
	same("4095 characters", settings_set(&settings, SETTING_LOG, path), true);
	same_text("path", settings_text(&settings, SETTING_LOG), path);
}

static struct settings settings_from(const char *text)
{
	struct settings settings;

	settings_init(&settings);
	settings_apply_file(&settings, text, strlen(text), "file");
	return settings;
}

static void file_lines(void)
{
	struct settings settings = settings_from("# a comment\n\n  \t\n\tXSAVESHIM_TRIM = both \r\n  # another\n"
						 "XSAVESHIM_LOG=/var/log/a=b c");

	same("problems", settings.problems, 0);
	same_text("trim", settings_text(&settings, SETTING_TRIM), "both");
	same_text("log", settings_text(&settings, SETTING_LOG), "/var/log/a=b c");
}

static void file_last_line_wins(void)
{
	struct settings settings = settings_from("XSAVESHIM_TRIM=both\nXSAVESHIM_TRIM=save\n");

	same_text("trim", settings_text(&settings, SETTING_TRIM), "save");
	settings = settings_from("XSAVESHIM_TRIM=both\nXSAVESHIM_TRIM=nonsense\n");
	same_text("trim", settings_text(&settings, SETTING_TRIM), "restore");
}

static void same_problem(const struct settings *settings, unsigned int i, struct settings_problem expected)
{
	const struct settings_problem *got = &settings->problem[i];

	same_text("key", got->key, expected.key);
	same_text("value", got->value, expected.value);
	same_text("source", got->source, expected.source);
	same("line", got->line, expected.line);
	same_text("accepted", got->accepted ? got->accepted : "no such key", expected.accepted);
	same_text("used", got->used ? got->used : "nothing", expected.used);
}

static void file_problems(void)
{
	struct settings settings = settings_from("XSAVESHIM_TRIM=some\n\nXSAVESHIM_TRIMM=both\nXSAVESHIM_LOG\n=\n");

	same("problems", settings.problems, 4);
	same_problem(&settings, 0, (struct settings_problem){
		"XSAVESHIM_TRIM", "some", "file", 1, "restore,save,both,none", "restore"});
	same_problem(&settings, 1, (struct settings_problem){
		"XSAVESHIM_TRIMM", "both", "file", 3, "no such key", "nothing"});
	same_problem(&settings, 2, (struct settings_problem){
		"XSAVESHIM_LOG", "", "file", 4, "stderr,syslog,none,/absolute/path", "stderr"});
	same_problem(&settings, 3, (struct settings_problem){"", "", "file", 5, "no such key", "nothing"});
}

static void file_hostile(void)
{
	static char text[SETTINGS_FILE_MAX];
	struct settings settings;

	memset(text, 'a', sizeof(text));
	settings_init(&settings);
	settings_apply_file(&settings, text, sizeof(text), "file");
	same("a line of 16 KiB", settings.problems, 1);
	same_text("key", settings.problem[0].key, "line");
	same_text("value", settings.problem[0].value, "too long");

	memset(text, '\0', sizeof(text));
	settings_init(&settings);
	settings_apply_file(&settings, text, sizeof(text), "file");
	same("a line of NULs longer than any", settings.problems, 1);

	memset(text, '=', 4000);
	settings_init(&settings);
	settings_apply_file(&settings, text, 4000, "file");
	same("a line of equals signs", settings.problems, 1);
	same("cut value", strlen(settings.problem[0].value), sizeof(settings.problem[0].value) - 1);

	memset(text, 'k', 4000);
	settings_init(&settings);
	settings_apply_file(&settings, text, 4000, "file");
	same("cut key", strlen(settings.problem[0].key), sizeof(settings.problem[0].key) - 1);
}

static void file_line_lengths(void)
{
	static char text[PATH_MAX + 128];

	memset(text, 'a', sizeof(text));
	for (size_t length = PATH_MAX; length <= sizeof(text); length++) {
		struct settings settings;

		settings_init(&settings);
		settings_apply_file(&settings, text, length, "file");
		same("problems", settings.problems, 1);
	}
}

static const char *lookup_one(const char *key, void *context)
{
	const char *const *one = context;

	return strcmp(key, one[0]) ? NULL : one[1];
}

static void environment_over_file(void)
{
	struct settings settings = settings_from("XSAVESHIM_TRIM=both\nXSAVESHIM_REFUSED=abort\n");
	const char *one[] = {"XSAVESHIM_TRIM", "save"};

	settings_apply_environment(&settings, lookup_one, one);
	same_text("trim", settings_text(&settings, SETTING_TRIM), "save");
	same_text("refused", settings_text(&settings, SETTING_REFUSED), "abort");
}

static void environment_problem(void)
{
	struct settings settings = settings_from("XSAVESHIM_TRIM=both\n");
	const char *one[] = {"XSAVESHIM_TRIM", ""};

	settings_apply_environment(&settings, lookup_one, one);
	same("problems", settings.problems, 1);
	same_problem(&settings, 0, (struct settings_problem){
		"XSAVESHIM_TRIM", "", "environment", 0, "restore,save,both,none", "restore"});
	same_text("trim", settings_text(&settings, SETTING_TRIM), "restore");
}

static void write_file(const char *path, const char *text, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	must(fd >= 0 && write(fd, text, size) == (ssize_t)size && !close(fd), path);
}

static void load_everything(void)
{
	static const char text[] = "XSAVESHIM_TRIM=both\nXSAVESHIM_REFUSED=abort\n";
	static struct settings settings;

	hide("/etc");
	write_file("/etc/xsaveshim.conf", text, strlen(text));
	clearenv();
	must(!setenv("XSAVESHIM_TRIM", "none", 1), "setenv");
	settings_load(&settings);
	same_text("from the environment", settings_text(&settings, SETTING_TRIM), "none");
	same_text("from the file", settings_text(&settings, SETTING_REFUSED), "abort");
	same_text("from neither", settings_text(&settings, SETTING_LOG), "stderr");
	same("problems", settings.problems, 0);
}

static void load_no_file(void)
{
	static struct settings settings;

	hide("/etc");
	clearenv();
	settings_load(&settings);
	same("problems", settings.problems, 0);
	must(!mkdir("/etc/xsaveshim.conf", 0700), "mkdir");
	settings_load(&settings);
	same("problems with a directory", settings.problems, 0);
}

static void load_size_limit(void)
{
	static char text[SETTINGS_FILE_MAX + 1];
	static struct settings settings;

	hide(SCRATCH);
	memset(text, '\n', sizeof(text));
	settings_init(&settings);
	write_file(SCRATCH "/conf", text, SETTINGS_FILE_MAX);
	settings_load_file(&settings, SCRATCH "/conf");
	same("problems at the limit", settings.problems, 0);
	memcpy(text, "XSAVESHIM_TRIM=both", 19);
	write_file(SCRATCH "/conf", text, SETTINGS_FILE_MAX + 1);
	settings_load_file(&settings, SCRATCH "/conf");
	same("problems beyond it", settings.problems, 1);
	same_text("value", settings.problem[0].value, "too large");
	same_text("trim", settings_text(&settings, SETTING_TRIM), "restore");
}

static void load_fifo(void)
{
	static struct settings settings;

	hide(SCRATCH);
	must(!mkfifo(SCRATCH "/conf", 0600), "mkfifo");
	settings_init(&settings);
	// Without a limit of our own: a hang is what the caller's timeout shows.
	settings_load_file(&settings, SCRATCH "/conf");
	same("problems", settings.problems, 0);
}

static const struct {
	const char *sentence;
	void (*check)(void);
} cases[] = {
	{"an empty CPUID table is a guest XCR0 of 0", xcr0_of_an_empty_table},
	{"a CPUID table without leaf 0xD is a guest XCR0 of 0", xcr0_without_the_leaf},
	{"leaf 0xD with index 0 is the guest XCR0", xcr0_of_subleaf_0},
	{"EDX is the upper half of the guest XCR0, up to bit 63", xcr0_has_edx_above},
	{"leaf 0xD with another significant index is passed over", xcr0_ignores_other_subleaves},
	{"leaf 0xD with other significant indices alone is a guest XCR0 of 0", xcr0_of_other_subleaves_alone},
	{"leaf 0xD whose index is not significant counts whatever the index", xcr0_of_a_flat_entry},
	{"the first entry that counts is the guest XCR0, not a later one", xcr0_of_the_first},
	{"a first entry of 0 is not passed over for a later one", xcr0_of_a_first_that_is_zero},
	{"no flag but the significant index makes a difference", xcr0_ignores_other_flags},
	{"the 256th entry is read, and none past the table's end", xcr0_of_entry_256},
	{"a CPUID table may lie at an odd address", xcr0_of_an_unaligned_table},
	{"a KVM_SET_CPUID table has the first leaf 0xD as guest XCR0", xcr0_of_v1},
	{"KVM_GET_CPUID2 that writes nent back has its entries counted by it", count_is_nent},
	{"KVM_GET_CPUID2 that leaves nent has its entries counted up to the last", count_ends_at_the_last_entry},
	{"KVM_GET_CPUID2 that writes nothing has no entries", count_of_nothing},
	{"no more than 256 entries are ever counted", count_is_at_most_256},
	{"widening adds to the leaf 0xD that counts and to nothing else", widen_adds_to_the_first},
	{"widening appends leaf 0xD where there is none", widen_appends_the_leaf},
	{"widening leaves a full table without leaf 0xD as it is, and says so", widen_a_full_table},
	{"the header's words are found at any alignment", payload_words},
	{"setting XSTATE_BV changes its 8 bytes and no other", payload_set_bv},
	{"each of the 48 reserved bytes is seen, and no other", payload_reserved},
	{"xfeatures have the names of the manual, and none from bit 20 on", xfeature_names},
	{"the host's XCR0 has what the kernel says it has enabled", host_features},
	{"every MXCSR bit that is not reserved loads on this CPU", host_mxcsr},
	{"every descriptor starts out unknown", vcpus_start_unknown},
	{"what is set for a vCPU is kept, and its neighbours stay as they were", vcpus_keep},
	{"the first and the last descriptor of the table are kept apart", vcpus_ends},
	{"a descriptor outside the table stays unknown and changes nothing", vcpus_outside},
	{"a guest XCR0 with a bit above 45 makes the vCPU unknown", vcpus_bits_above_45},
	{"a guest may have its XCR0 and, whatever that is, FP and SSE", allowed_is_xcr0_fp_sse},
	{"a vCPU without a known XCR0 may have everything", allowed_without_xcr0},
	{"no component that the guest's CPUID enumerates is dropped", trim_keeps_what_cpuid_has},
	{"trimming twice is trimming once", trim_twice},
	{"each mode trims in its own direction", trim_modes},
	{"a vCPU without a known XCR0 is never trimmed", trim_only_what_is_known},
	{"what the host lacks speaks against a payload, FP and SSE apart", diagnose_host},
	{"what a known guest lacks speaks against a payload", diagnose_guest},
	{"XCOMP_BV and reserved bytes speak against a payload", diagnose_header},
	{"MXCSR speaks against a payload only where FP, SSE or AVX is loaded", diagnose_mxcsr},
	{"FP and SSE speak against a payload only where nothing else does", diagnose_fpsse},
	{"a payload is loaded widened only for FP and SSE alone, where restores are trimmed", widen_when},
	{"a trim is one line that names what was dropped", report_a_trim},
	{"a trim that the settings forbid is told as one that would be", report_a_would_be_trim},
	{"nothing to drop is no line", report_no_trim},
	{"a refusal names each reason", report_a_refusal},
	{"an errno other than EINVAL does not blame the payload", report_other_errors},
	{"what was learned of a vCPU is a line at level debug", report_what_was_learned},
	{"each log level has its lines and those of the levels above it", report_levels},
	{"a value that logfmt could not tell apart is quoted", report_quotes},
	{"numbers are written whole, from the least to the most", report_numbers},
	{"the names of all 64 xfeatures fit into a line", report_the_longest},
	{"a line too long is cut and still ends as a line", report_cut},
	{"a log that is nowhere takes reports and keeps errno", report_nowhere},
	{"a line that a full disk does not take goes to the fallback, and errno is kept", report_to_a_full_disk},
	{"syslog gets each line with its priority, the fallback what syslog does not take", report_to_syslog},
	{"the default log is standard error", open_stderr},
	{"a process without a standard error has no log", open_without_stderr},
	{"the log none is nowhere", open_none},
	{"a log file is appended to, has mode 0600, and a high descriptor that exec closes", open_a_file},
	{"a log file that is a symbolic link is refused, and standard error says so", open_a_link},
	{"the log syslog is the socket /dev/log", open_syslog_socket},
	{"without /dev/log standard error says so and is the log", open_without_syslog},
	{"every bad setting is a line that says what is used instead", open_reports_problems},
	{"bad settings beyond the eighth are counted", open_counts_problems},
	{"settings come out of a record as they were put in", record_keeps},
	{"a record that was not published, or has another version, has no settings", record_of_another_version},
	{"a record whose bytes are no settings is refused, and a path that does not end is cut", record_of_anything},
	{"the defaults are restore, report, stderr and notice", settings_defaults},
	{"each setting takes each of its values", settings_values},
	{"a value that is not one of a setting's is refused", settings_refuse},
	{"a log path may have 4095 characters and no more", settings_longest_path},
	{"a settings file has comments, white space and values with equals signs", file_lines},
	{"of two lines for one setting the last counts", file_last_line_wins},
	{"a bad line of a settings file is kept with its number", file_problems},
	{"a settings file without newlines, of NULs or of one character does no harm", file_hostile},
	{"a line of a settings file may have any length, up to the longest and beyond", file_line_lengths},
	{"the environment counts more than the settings file", environment_over_file},
	{"a bad value in the environment means the default, not the file's value", environment_problem},
	{"settings come from the environment, then the file, then the defaults", load_everything},
	{"a settings file that is missing or cannot be read is no problem", load_no_file},
	{"a settings file of more than 16 KiB is reported and left alone", load_size_limit},
	{"a FIFO in the settings file's place holds up nothing", load_fifo},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < COUNT(cases); i++) {
		if (argc < 2)
			puts(cases[i].sentence);
		else if (!strcmp(argv[1], cases[i].sentence)) {
			cases[i].check();
			return failed;
		}
	}
	if (argc < 2)
		return 0;
	fprintf(stderr, "core: no such case: %s\n", argv[1]);
	return 2;
}
