// SPDX-License-Identifier: MIT
// Tests guest_cpuid.h, which computes the guest's XCR0 (the xfeatures that the guest may use) from
// the CPUID table of a vCPU.
#include <string.h>

#include "check.h"
#include "xsaveshim/guest_cpuid.h"

// SUBLEAF() is a CPUID entry of leaf 0xD with KVM_CPUID_FLAG_SIGNIFCANT_INDEX. FLAT() is a CPUID
// entry of leaf 0xD without this flag. OTHER() is a CPUID entry of any other leaf.
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

	same("XCR0, 256 entries", guest_cpuid_xcr0(table, GUEST_CPUID_MAX_ENTRIES), 0x7);
	same("XCR0, 255 entries", guest_cpuid_xcr0(table, GUEST_CPUID_MAX_ENTRIES - 1), 0);
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
	same("XCR0 without leaf 0xD", guest_cpuid_v1_xcr0(table, 1), 0);
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
	same("count, if the last entry has one nonzero byte", guest_cpuid_count(&table), 3);
	memset(table.entries, 0, sizeof(table.entries));
	same("count, if all entries are zeroes", guest_cpuid_count(&table), 0);
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
	same("difference after put_back", memcmp(&table, &before, sizeof(table)), 0);
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
	same("widened, with leaf 0xD in the last entry",
	     guest_cpuid_widen(&table, XFEATURE_FPSSE, &change), true);
	same("nent", table.nent, GUEST_CPUID_MAX_ENTRIES);
}

const struct test_case guest_cpuid_cases[] = {
	{"if a CPUID table is empty or lacks leaf 0xD, xsaveshim takes 0 as the guest's XCR0",
	 xcr0_without_the_leaf},
	{"xsaveshim reads the guest's XCR0 from EAX (low half) and EDX (high half) of CPUID leaf 0xD, index 0",
	 xcr0_of_subleaf_0},
	{"to find the guest's XCR0, xsaveshim skips those CPUID entries of leaf 0xD that have KVM_CPUID_FLAG_SIGNIFCANT_INDEX and an index other than 0",
	 xcr0_ignores_other_subleaves},
	{"a CPUID entry of leaf 0xD without KVM_CPUID_FLAG_SIGNIFCANT_INDEX gives the guest's XCR0, whatever index the entry has",
	 xcr0_of_a_flat_entry},
	{"if several CPUID entries of leaf 0xD have index 0 or lack KVM_CPUID_FLAG_SIGNIFCANT_INDEX, the first of them gives the guest's XCR0, even if this XCR0 is 0",
	 xcr0_of_the_first},
	{"to find the guest's XCR0, xsaveshim considers only one flag of a CPUID entry, KVM_CPUID_FLAG_SIGNIFCANT_INDEX",
	 xcr0_ignores_other_flags},
	{"if entry 256 of a CPUID table is leaf 0xD, xsaveshim reads this entry if nent (the number of entries) is 256, but not if nent is 255",
	 xcr0_of_entry_256},
	{"xsaveshim reads the guest's XCR0 correctly from a CPUID table at an odd address",
	 xcr0_of_an_unaligned_table},
	{"in a KVM_SET_CPUID table, whose entries have no index, the first entry of leaf 0xD gives the guest's XCR0",
	 xcr0_of_v1},
	{"if KVM_GET_CPUID2 updates nent, xsaveshim takes nent as the number of CPUID entries",
	 count_is_nent},
	{"if KVM_GET_CPUID2 leaves nent unchanged, xsaveshim counts the CPUID entries up to the last one that is not all zeroes",
	 count_ends_at_the_last_entry},
	{"xsaveshim counts at most 256 entries in a table from KVM_GET_CPUID2, even if nent is larger",
	 count_is_at_most_256},
	{"to add xfeatures to a CPUID table, xsaveshim changes only the entry of leaf 0xD from which KVM reads the guest's XCR0",
	 widen_adds_to_the_first},
	{"to add xfeatures to a CPUID table without leaf 0xD, xsaveshim appends an entry of this leaf",
	 widen_appends_the_leaf},
	{"if a full CPUID table of 256 entries lacks leaf 0xD, xsaveshim cannot add xfeatures and leaves the table unchanged",
	 widen_a_full_table},
	{NULL, NULL},
};
