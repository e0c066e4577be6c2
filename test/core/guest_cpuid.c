// SPDX-License-Identifier: MIT
// Tests guest_cpuid.h, which computes the guest's XCR0 (the xfeatures that the guest may use) from
// the CPUID table of a vCPU.
#include <string.h>

#include "check.h"
#include "xsaveshim/guest_cpuid.h"

// SUBLEAF() is a CPUID entry of leaf 0xD with KVM_CPUID_FLAG_SIGNIFCANT_INDEX. FLAT() is a CPUID
// entry of leaf 0xD without this flag. OTHER() is a CPUID entry of another leaf.
#define LEAF(number, significant, xcr0) \
	{ \
		.function = 0xd, .index = (number), .flags = (significant), \
		.eax = (uint32_t)(xcr0), .edx = (uint32_t)((uint64_t)(xcr0) >> 32) \
	}
#define SUBLEAF(number, xcr0) LEAF(number, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, xcr0)
#define FLAT(number, xcr0) LEAF(number, 0, xcr0)
#define OTHER(number) \
	{ \
		.function = (number), .eax = 0xff, .ebx = 0xff, .ecx = 0xff, .edx = 0xff \
	}

#define SAME_XCR0(expected, ...) \
	do { \
		const struct kvm_cpuid_entry2 table[] = {__VA_ARGS__}; \
		same("guest XCR0", guest_cpuid_xcr0(table, COUNT(table)), expected); \
	} while (0)

static void xcr0_without_the_leaf(void)
{
	same("guest XCR0", guest_cpuid_xcr0(NULL, 0), 0);
	same("guest XCR0, v1", guest_cpuid_v1_xcr0(NULL, 0), 0);
	SAME_XCR0(0, OTHER(0), OTHER(1), OTHER(0xc), OTHER(0xe), OTHER(0x8000000d),
		  OTHER(0x4000000d));
}

static void xcr0_of_subleaf_0(void)
{
	SAME_XCR0(0x207, OTHER(1), SUBLEAF(0, 0x207), OTHER(0x14));
	SAME_XCR0(UINT64_C(0x8000000100000007), SUBLEAF(0, UINT64_C(0x8000000100000007)));
}

static void xcr0_ignores_other_subleaves(void)
{
	SAME_XCR0(0x7, SUBLEAF(1, 0xff), SUBLEAF(2, 0x100), SUBLEAF(0x80000000, 0xff),
		  SUBLEAF(0, 0x7));
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
	SAME_XCR0(0, SUBLEAF(0, 0), SUBLEAF(0, 0xff));
}

static void xcr0_ignores_other_flags(void)
{
	SAME_XCR0(0x7,
		  {.function = 0xd, .index = 1, .flags = KVM_CPUID_FLAG_STATEFUL_FUNC, .eax = 0x7});
	SAME_XCR0(0, {.function = 0xd, .index = 1, .flags = ~0U, .eax = 0x7});
}

static void xcr0_of_entry_256(void)
{
	struct kvm_cpuid_entry2 table[GUEST_CPUID_MAX_ENTRIES] = {
		[GUEST_CPUID_MAX_ENTRIES - 1] = SUBLEAF(0, 0x7)};

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

static void count_is_nent(void)
{
	struct guest_cpuid table = {.nent = 2, .entries = {OTHER(0), OTHER(1)}};

	same("count", guest_cpuid_count(&table), 2);
}

static void count_ends_at_the_last_entry(void)
{
	struct guest_cpuid table = {
		.nent = GUEST_CPUID_MAX_ENTRIES, .entries = {OTHER(0), {.eax = 0}, OTHER(1)}};

	same("count", guest_cpuid_count(&table), 3);
	table.entries[2] = (struct kvm_cpuid_entry2){.padding = {0, 0, 1}};
	same("count with a last entry that has one byte", guest_cpuid_count(&table), 3);
	memset(table.entries, 0, sizeof(table.entries));
	same("count without any entry", guest_cpuid_count(&table), 0);
}

static void count_is_at_most_256(void)
{
	struct guest_cpuid table = {.nent = ~0U};

	memset(table.entries, 1, sizeof(table.entries));
	same("count", guest_cpuid_count(&table), GUEST_CPUID_MAX_ENTRIES);
}

// Checks that guest_cpuid_widen() changes the table into the expected table, and that
// guest_cpuid_put_back() undoes the change.
static void check_widening(struct guest_cpuid table, uint64_t xfeatures,
			   const struct guest_cpuid *expected)
{
	struct guest_cpuid before = table;
	struct guest_cpuid_change change;

	same("widened", guest_cpuid_widen(&table, xfeatures, &change), true);
	same("difference", memcmp(&table, expected, sizeof(table)), 0);
	guest_cpuid_put_back(&table, &change);
	same("difference, put back", memcmp(&table, &before, sizeof(table)), 0);
}

static void widen_adds_to_the_first(void)
{
	struct guest_cpuid table = {
		.nent = 3, .entries = {SUBLEAF(1, 0), SUBLEAF(0, 0x4), SUBLEAF(0, 0x8)}};
	struct guest_cpuid expected = table;

	expected.entries[1].eax = 0x7;
	expected.entries[1].edx = 0x1;
	check_widening(table, XFEATURE_FPSSE | UINT64_C(1) << 32, &expected);
}

static void widen_appends_the_leaf(void)
{
	struct guest_cpuid table = {.nent = 1, .entries = {OTHER(1)}};
	struct guest_cpuid expected = {
		.nent = 2, .entries = {OTHER(1), SUBLEAF(0, XFEATURE_FPSSE)}};

	check_widening(table, XFEATURE_FPSSE, &expected);
}

static void widen_a_full_table(void)
{
	struct guest_cpuid table = {.nent = GUEST_CPUID_MAX_ENTRIES};
	struct guest_cpuid_change change;
	struct guest_cpuid before;

	for (uint32_t i = 0; i < GUEST_CPUID_MAX_ENTRIES; i++)
		table.entries[i] = (struct kvm_cpuid_entry2)OTHER(i + 0x100);
	before = table;
	same("widened", guest_cpuid_widen(&table, XFEATURE_FPSSE, &change), false);
	same("difference", memcmp(&table, &before, sizeof(table)), 0);
	table.entries[GUEST_CPUID_MAX_ENTRIES - 1] = (struct kvm_cpuid_entry2)SUBLEAF(0, 0);
	same("widened, with the leaf in the last place",
	     guest_cpuid_widen(&table, XFEATURE_FPSSE, &change), true);
	same("nent", table.nent, GUEST_CPUID_MAX_ENTRIES);
}

const struct test_case guest_cpuid_cases[] = {
	{"if a CPUID table is empty or lacks leaf 0xD, the guest's XCR0 is 0",
	 xcr0_without_the_leaf},
	{"EAX and EDX of leaf 0xD, index 0, are the 64 bits of the guest's XCR0",
	 xcr0_of_subleaf_0},
	{"an entry of leaf 0xD with a significant index other than 0 is skipped",
	 xcr0_ignores_other_subleaves},
	{"an entry of leaf 0xD whose index is not significant is the guest's XCR0",
	 xcr0_of_a_flat_entry},
	{"of several entries of leaf 0xD, the first is the guest's XCR0, even if its value is 0",
	 xcr0_of_the_first},
	{"KVM_CPUID_FLAG_SIGNIFCANT_INDEX is the only flag of a CPUID entry that matters",
	 xcr0_ignores_other_flags},
	{"the 256th entry of a CPUID table is read, and no entry after the table's end",
	 xcr0_of_entry_256},
	{"a CPUID table may lie at an odd address", xcr0_of_an_unaligned_table},
	{"in a KVM_SET_CPUID table, the first entry of leaf 0xD is the guest's XCR0", xcr0_of_v1},
	{"if KVM_GET_CPUID2 writes nent back, nent is the number of entries", count_is_nent},
	{"if KVM_GET_CPUID2 does not change nent, the table ends with the last entry in use",
	 count_ends_at_the_last_entry},
	{"a CPUID table has at most 256 entries, whatever its nent says", count_is_at_most_256},
	{"to add xfeatures to a CPUID table, only the entry of leaf 0xD that KVM uses is changed",
	 widen_adds_to_the_first},
	{"to add xfeatures to a CPUID table without leaf 0xD, the leaf is appended",
	 widen_appends_the_leaf},
	{"a full CPUID table without leaf 0xD cannot be widened, and stays unchanged",
	 widen_a_full_table},
	{NULL, NULL},
};
