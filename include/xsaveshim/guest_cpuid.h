// SPDX-License-Identifier: MIT
// Computes the guest's XCR0, the xfeatures that the guest may use, from the CPUID table that
// KVM_SET_CPUID or KVM_SET_CPUID2 gives to a vCPU.
//
// Source: arch/x86/kvm/cpuid.c. Thread- and async-signal-safe. Tables may have any alignment.
#ifndef XSAVESHIM_GUEST_CPUID_H
#define XSAVESHIM_GUEST_CPUID_H

#include <stdbool.h>
#include <stdint.h>

#include <asm/kvm.h>

// KVM_MAX_CPUID_ENTRIES in arch/x86/include/asm/kvm_host.h: KVM refuses more entries with E2BIG.
#define GUEST_CPUID_MAX_ENTRIES 256

// Intel SDM vol. 1, 13.2: processor extended state enumeration.
#define CPUID_LEAF_XSTATE 0xd

// A struct kvm_cpuid2 that has space for every entry that KVM may return.
struct guest_cpuid {
	uint32_t nent;
	uint32_t padding;
	struct kvm_cpuid_entry2 entries[GUEST_CPUID_MAX_ENTRIES];
};

// Returns true if a KVM_SET_CPUID2 entry holds the guest's XCR0 in EDX:EAX: its function is 0xD,
// and its index is 0 or not significant. KVM uses the first such entry. Needs no libc.
static inline bool guest_cpuid_enumerates_xcr0(const struct kvm_cpuid_entry2 *entry)
{
	return entry->function == CPUID_LEAF_XSTATE &&
	       (!(entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || entry->index == 0);
}

// Returns the guest XCR0 of a KVM_SET_CPUID2 table. entries: nent struct kvm_cpuid_entry2. The
// result is 0 if no entry holds an XCR0, and keeps the bits that this host lacks.
uint64_t guest_cpuid_xcr0(const void *entries, uint32_t nent);

// Returns the same for a KVM_SET_CPUID table. entries: nent struct kvm_cpuid_entry. These have no
// index: KVM uses the first entry with function 0xD.
uint64_t guest_cpuid_v1_xcr0(const void *entries, uint32_t nent);

// Returns the number of entries that KVM_GET_CPUID2 wrote into a table that was all zeroes except
// nent: up to the last one that is not all zeroes. Linux up to 6.4 does not write nent back.
uint32_t guest_cpuid_count(const struct guest_cpuid *table);

// The part of a table that guest_cpuid_widen has changed, as it was before.
struct guest_cpuid_change {
	uint32_t nent;
	uint32_t index; // of the entry that was changed or appended
	struct kvm_cpuid_entry2 entry;
};

// Adds xfeatures to the XCR0 that the table gives the guest, and appends leaf 0xD if the table has
// none. Returns false, with the table unchanged, if the table is full.
bool guest_cpuid_widen(struct guest_cpuid *table, uint64_t xfeatures,
		       struct guest_cpuid_change *change);

// Undoes a guest_cpuid_widen.
void guest_cpuid_put_back(struct guest_cpuid *table, const struct guest_cpuid_change *change);

#endif
