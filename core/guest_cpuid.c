// SPDX-License-Identifier: MIT
#include "xsaveshim/guest_cpuid.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static_assert(sizeof(struct kvm_cpuid2) == 8, "the header of a CPUID table has 8 bytes");
static_assert(sizeof(struct kvm_cpuid_entry2) == 40, "an entry of KVM_SET_CPUID2 has 40 bytes");
static_assert(sizeof(struct kvm_cpuid_entry) == 24, "an entry of KVM_SET_CPUID has 24 bytes");
static_assert(offsetof(struct guest_cpuid, entries) == sizeof(struct kvm_cpuid2),
	      "struct guest_cpuid has the layout of struct kvm_cpuid2");

static uint64_t edx_eax(uint32_t edx, uint32_t eax)
{
	return (uint64_t)edx << 32 | eax;
}

uint64_t guest_cpuid_xcr0(const void *entries, uint32_t nent)
{
	for (uint32_t i = 0; i < nent; i++) {
		struct kvm_cpuid_entry2 entry;

		memcpy(&entry, (const char *)entries + i * sizeof(entry), sizeof(entry));
		if (guest_cpuid_enumerates_xcr0(&entry))
			return edx_eax(entry.edx, entry.eax);
	}
	return 0;
}

uint64_t guest_cpuid_v1_xcr0(const void *entries, uint32_t nent)
{
	for (uint32_t i = 0; i < nent; i++) {
		struct kvm_cpuid_entry entry;

		memcpy(&entry, (const char *)entries + i * sizeof(entry), sizeof(entry));
		if (entry.function == CPUID_LEAF_XSTATE)
			return edx_eax(entry.edx, entry.eax);
	}
	return 0;
}

uint32_t guest_cpuid_count(const struct guest_cpuid *table)
{
	static const struct kvm_cpuid_entry2 unused;
	uint32_t n = table->nent < GUEST_CPUID_MAX_ENTRIES ? table->nent : GUEST_CPUID_MAX_ENTRIES;

	while (n && !memcmp(&table->entries[n - 1], &unused, sizeof(unused)))
		n--;
	return n;
}

bool guest_cpuid_widen(struct guest_cpuid *table, uint64_t xfeatures,
		       struct guest_cpuid_change *change)
{
	uint32_t i = 0;

	while (i < table->nent && !guest_cpuid_enumerates_xcr0(&table->entries[i]))
		i++;
	if (i == GUEST_CPUID_MAX_ENTRIES)
		return false;
	*change = (struct guest_cpuid_change){table->nent, i, table->entries[i]};
	if (i == table->nent)
		table->entries[table->nent++] = (struct kvm_cpuid_entry2){
			.function = CPUID_LEAF_XSTATE, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
	table->entries[i].eax |= (uint32_t)xfeatures;
	table->entries[i].edx |= (uint32_t)(xfeatures >> 32);
	return true;
}

void guest_cpuid_put_back(struct guest_cpuid *table, const struct guest_cpuid_change *change)
{
	table->entries[change->index] = change->entry;
	table->nent = change->nent;
}
