// SPDX-License-Identifier: MIT
// From a guest's CPUID table, as KVM_SET_CPUID{,2} takes it, to the guest's XCR0: which xfeatures
// the guest may use.
//
// All functions are thread- and async-signal-safe and take tables at any alignment. Source:
// arch/x86/kvm/cpuid.c.
#ifndef XSAVESHIM_GUEST_CPUID_H
#define XSAVESHIM_GUEST_CPUID_H

#include <stdbool.h>
#include <stdint.h>

#include <asm/kvm.h>

// KVM_MAX_CPUID_ENTRIES in arch/x86/include/asm/kvm_host.h: KVM_SET_CPUID{,2} with more entries
// fails with E2BIG.
#define GUEST_CPUID_MAX_ENTRIES 256

// Intel SDM vol. 1, 13.2: processor extended state enumeration.
#define CPUID_LEAF_XSTATE 0xd

// A struct kvm_cpuid2 with room for every entry the kernel can have.
struct guest_cpuid {
	uint32_t nent;
	uint32_t padding;
	struct kvm_cpuid_entry2 entries[GUEST_CPUID_MAX_ENTRIES];
};

// Whether an entry of a KVM_SET_CPUID2 table enumerates the guest's XCR0 in EDX:EAX: function 0xD
// whose index is 0 or not significant. The first such entry of a table counts. Needs no libc.
static inline bool guest_cpuid_enumerates_xcr0(const struct kvm_cpuid_entry2 *entry)
{
	return entry->function == CPUID_LEAF_XSTATE &&
	       (!(entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || entry->index == 0);
}

// The guest XCR0 of a KVM_SET_CPUID2 table of nent struct kvm_cpuid_entry2: EDX:EAX of the first
// entry with function 0xD whose index is 0 or not significant; 0 without such an entry. Bits this
// host lacks are kept.
uint64_t guest_cpuid_xcr0(const void *entries, uint32_t nent);

// The same for a KVM_SET_CPUID table of nent struct kvm_cpuid_entry, which have no index: the first
// with function 0xD.
uint64_t guest_cpuid_v1_xcr0(const void *entries, uint32_t nent);

// How many entries KVM_GET_CPUID2 wrote into a table that was all zeroes before, nent apart. Up to
// Linux 6.4 the call leaves nent as the caller set it, so the entries themselves are counted, up to
// the last one that is not all zeroes.
uint32_t guest_cpuid_count(const struct guest_cpuid *table);

// What guest_cpuid_widen changed in a table.
struct guest_cpuid_change {
	uint32_t nent;		       // before
	uint32_t index;		       // of the entry that was changed or appended
	struct kvm_cpuid_entry2 entry; // before
};

// Adds xfeatures to what leaf 0xD, index 0, of the table enumerates, appending the leaf where there
// is none. False where there is no room for it; the table is then unchanged.
bool guest_cpuid_widen(struct guest_cpuid *table, uint64_t xfeatures,
		       struct guest_cpuid_change *change);

// Makes a table that guest_cpuid_widen has changed what it was before.
void guest_cpuid_put_back(struct guest_cpuid *table, const struct guest_cpuid_change *change);

#endif
