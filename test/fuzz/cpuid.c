// SPDX-License-Identifier: MIT
// Feeds CPUID tables to the functions of guest_cpuid.h. These functions compute a guest's XCR0 from
// a CPUID table, and add xfeatures to a CPUID table. The tables can have any bytes, any number of
// entries and any alignment.
#include "fuzz.h"

#include "xsaveshim/guest_cpuid.h"

static void check_widen(const void *entries, uint32_t nent, uint64_t xfeatures)
{
	static struct guest_cpuid table, widened;
	struct guest_cpuid_change change;
	uint64_t xcr0;

	memset(&table, 0, sizeof(table));
	table.nent = nent < GUEST_CPUID_MAX_ENTRIES ? nent : GUEST_CPUID_MAX_ENTRIES;
	memcpy(table.entries, entries, table.nent * sizeof(table.entries[0]));
	MUST(guest_cpuid_count(&table) <= table.nent);
	table.nent = guest_cpuid_count(&table);
	xcr0 = guest_cpuid_xcr0(table.entries, table.nent);
	widened = table;
	if (!guest_cpuid_widen(&widened, xfeatures, &change)) {
		MUST(table.nent == GUEST_CPUID_MAX_ENTRIES && !xcr0 &&
		     !memcmp(&table, &widened, sizeof(table)));
		return;
	}
	MUST(widened.nent <= GUEST_CPUID_MAX_ENTRIES && widened.nent - table.nent <= 1);
	MUST(guest_cpuid_xcr0(widened.entries, widened.nent) == (xcr0 | xfeatures));
	guest_cpuid_put_back(&widened, &change);
	MUST(!memcmp(&table, &widened, sizeof(table)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	uint64_t xfeatures = take(&input, 8);
	char *table = take_rest(&input);
	uint32_t nent = (uint32_t)(input.size / sizeof(struct kvm_cpuid_entry2));
	// The last entry ends exactly at the end of the allocated memory, so that a sanitizer sees
	// a read past the last entry. The first entry can have any alignment.
	char *entries = table + input.size - nent * sizeof(struct kvm_cpuid_entry2);

	MUST(guest_cpuid_xcr0(entries, 0) == 0);
	guest_cpuid_v1_xcr0(table, (uint32_t)(input.size / sizeof(struct kvm_cpuid_entry)));
	check_widen(entries, nent, xfeatures);
	free(table);
	return 0;
}
