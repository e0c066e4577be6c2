// SPDX-License-Identifier: MIT
// Computes the guest's XCR0 (the xfeatures that the guest may use) from the CPUID table that
// KVM_SET_CPUID or KVM_SET_CPUID2 gives to a vCPU.
//
// The functions follow the rules of Linux's arch/x86/kvm/cpuid.c. All functions are thread- and
// async-signal-safe. The array that a parameter `entries` points to may have any alignment.
#ifndef XSAVESHIM_GUEST_CPUID_H
#define XSAVESHIM_GUEST_CPUID_H

#include <stdbool.h>
#include <stdint.h>

#include <asm/kvm.h>

// If a CPUID table has more entries than this, KVM_SET_CPUID and KVM_SET_CPUID2 fail with E2BIG.
// Source: KVM_MAX_CPUID_ENTRIES in arch/x86/include/asm/kvm_host.h.
#define GUEST_CPUID_MAX_ENTRIES 256

// The CPUID leaf that enumerates the xfeatures: Intel SDM vol. 1, 13.2.
#define CPUID_LEAF_XSTATE 0xd

// A struct kvm_cpuid2 that has space for every entry that KVM may return.
struct guest_cpuid {
	uint32_t nent;
	uint32_t padding;
	struct kvm_cpuid_entry2 entries[GUEST_CPUID_MAX_ENTRIES];
};

// Returns true if the given entry of a KVM_SET_CPUID2 table holds the guest's XCR0 (in EDX:EAX).
// Such an entry has function 0xD, and an index that is 0 or not significant. If several entries of
// a table hold an XCR0, KVM uses the first one. The function uses no libc, so BPF programs can call
// it.
static inline bool guest_cpuid_enumerates_xcr0(const struct kvm_cpuid_entry2 *entry)
{
	return entry->function == CPUID_LEAF_XSTATE &&
	       (!(entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || entry->index == 0);
}

// Returns the guest XCR0 of a KVM_SET_CPUID2 table, or 0 if no entry holds an XCR0. The result may
// have bits of xfeatures that this host lacks. entries: an array of nent struct kvm_cpuid_entry2.
uint64_t guest_cpuid_xcr0(const void *entries, uint32_t nent);

// Returns the guest XCR0 of a KVM_SET_CPUID table, or 0 if no entry holds an XCR0. Entries of
// KVM_SET_CPUID have no index, so KVM uses the first entry with function 0xD. entries: an array of
// nent struct kvm_cpuid_entry.
uint64_t guest_cpuid_v1_xcr0(const void *entries, uint32_t nent);

// Returns the number of entries that KVM_GET_CPUID2 wrote into a table. Linux up to 6.4 does not
// store this number in nent, so guest_cpuid_count counts the entries up to the last one that is not
// all zeroes. So fill all entries with zeroes before you call KVM_GET_CPUID2.
uint32_t guest_cpuid_count(const struct guest_cpuid *table);

// The earlier values of those parts of a CPUID table that guest_cpuid_widen changed.
struct guest_cpuid_change {
	uint32_t nent;
	uint32_t index; // the index of the changed or appended entry
	struct kvm_cpuid_entry2 entry;
};

// Adds the given xfeatures to the guest's XCR0 in the table. If the table has no leaf 0xD,
// guest_cpuid_widen appends this leaf. If the table has no space for the leaf, the function returns
// false and leaves the table unchanged.
bool guest_cpuid_widen(struct guest_cpuid *table, uint64_t xfeatures,
		       struct guest_cpuid_change *change);

void guest_cpuid_put_back(struct guest_cpuid *table, const struct guest_cpuid_change *change);

#endif
