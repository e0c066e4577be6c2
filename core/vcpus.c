// SPDX-License-Identifier: MIT
#include "xsaveshim/vcpus.h"

#include <assert.h>
#include <stddef.h>

#include "xsaveshim/rate_limit.h"

// A vCPU's word in vcpus.words has three fields of struct vcpu: guest_xcr0 in bits 0 to 45, the id
// plus one in bits 46 to 61, and knowledge in bits 62 and 63. If guest_xcr0 does not fit into 46
// bits, or the fourth field, enabled_xcr0, is not 0, vcpus_set stores both XCR0s in the vCPU's
// element of vcpus.slots, and XCR0_IN_SLOT instead of VCPU_XCR0 in bits 62 and 63 of the word.
#define ID_SHIFT 46
#define ID_MASK UINT64_C(0xffff)
#define KNOWLEDGE_SHIFT 62
#define XCR0_MASK ((UINT64_C(1) << ID_SHIFT) - 1)
#define XCR0_IN_SLOT 3

static_assert(VCPU_UNKNOWN == 0 && VCPU_XCR0 < XCR0_IN_SLOT,
	      "a zeroed word means VCPU_UNKNOWN, and no enum vcpu_knowledge equals XCR0_IN_SLOT");

// In vcpus.slot_of[fd], the bit HAS_HISTORY says that fd's slot has a history: counts of events, or
// dropped xfeatures. If HAS_HISTORY is clear, no function reads the history, because even a read
// may make the kernel allocate a page of memory.
#define HAS_HISTORY 0x8000
#define NUMBER_MASK (HAS_HISTORY - 1)

static_assert(VCPUS_SLOTS < HAS_HISTORY, "a slot's index plus one fits below HAS_HISTORY");

static bool is_inside(int fd)
{
	return fd >= 0 && fd < VCPUS_MAX;
}

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

// Does not write to memory if the word already has this value.
static void store(_Atomic uint64_t *word, uint64_t value)
{
	if (load(word) != value)
		atomic_store_explicit(word, value, memory_order_relaxed);
}

static unsigned int slot_of(const struct vcpus *vcpus, int fd)
{
	return is_inside(fd) ? atomic_load_explicit(&vcpus->slot_of[fd], memory_order_relaxed) : 0;
}

// Returns the index of the descriptor's slot plus one, or 0 if the descriptor has no slot.
static unsigned int slot_number(const struct vcpus *vcpus, int fd)
{
	return slot_of(vcpus, fd) & NUMBER_MASK;
}

static bool has_history(const struct vcpus *vcpus, int fd)
{
	return slot_of(vcpus, fd) & HAS_HISTORY;
}

// Gives the descriptor a slot in vcpus.slots if the descriptor has none. Returns the slot's index
// plus one, or 0 if the descriptor cannot have a slot.
static unsigned int take_slot(struct vcpus *vcpus, int fd)
{
	unsigned int number = slot_number(vcpus, fd);
	uint16_t none = 0;

	if (!number && is_inside(fd) &&
	    atomic_load_explicit(&vcpus->slots_given, memory_order_relaxed) < VCPUS_SLOTS) {
		number =
			atomic_fetch_add_explicit(&vcpus->slots_given, 1, memory_order_relaxed) + 1;
		if (number > VCPUS_SLOTS)
			return 0;
		// If the exchange fails, another thread has given the descriptor a slot, and may
		// have set HAS_HISTORY.
		if (!atomic_compare_exchange_strong_explicit(
			    &vcpus->slot_of[fd], &none, (uint16_t)number, memory_order_relaxed,
			    memory_order_relaxed))
			number = none & NUMBER_MASK;
	}
	return number;
}

// Returns the slot that has the descriptor's counters. A descriptor without a slot of its own uses
// the counters of a slot at the end of vcpus.slots. Few descriptors own a slot at the end, because
// take_slot gives out slots from the beginning of the array.
static struct vcpu_slot *counting_slot(struct vcpus *vcpus, int fd)
{
	unsigned int number = slot_number(vcpus, fd);

	if (number && !has_history(vcpus, fd))
		atomic_fetch_or_explicit(&vcpus->slot_of[fd], HAS_HISTORY, memory_order_relaxed);
	return &vcpus->slots[number ? number - 1
				    : VCPUS_SLOTS - 1 - (unsigned int)fd % VCPUS_SLOTS];
}

struct vcpu vcpus_get(const struct vcpus *vcpus, int fd)
{
	unsigned int number = slot_number(vcpus, fd);
	const struct vcpu_slot *slot = &vcpus->slots[number ? number - 1 : 0];
	uint64_t word =
		number ? atomic_load_explicit(&vcpus->words[number - 1], memory_order_acquire) : 0;
	unsigned int knowledge = (unsigned int)(word >> KNOWLEDGE_SHIFT);
	struct vcpu vcpu = {
		.knowledge = knowledge == XCR0_IN_SLOT ? VCPU_XCR0 : (enum vcpu_knowledge)knowledge,
		.id = (int)(word >> ID_SHIFT & ID_MASK) - 1,
		.guest_xcr0 = word & XCR0_MASK,
	};

	if (knowledge == XCR0_IN_SLOT) {
		vcpu.guest_xcr0 = load(&slot->guest_xcr0);
		vcpu.enabled_xcr0 = load(&slot->enabled_xcr0);
	}
	return vcpu;
}

void vcpus_set(struct vcpus *vcpus, int fd, struct vcpu vcpu)
{
	unsigned int number = take_slot(vcpus, fd);
	uint64_t knowledge = vcpu.knowledge;
	struct vcpu_slot *slot;

	if (!number)
		return;
	slot = &vcpus->slots[number - 1];
	if (vcpu.enabled_xcr0 || vcpu.guest_xcr0 & ~XCR0_MASK) {
		knowledge = XCR0_IN_SLOT;
		store(&slot->guest_xcr0, vcpu.guest_xcr0);
		store(&slot->enabled_xcr0, vcpu.enabled_xcr0);
	}
	// memory_order_release: a thread that reads XCR0_IN_SLOT from the word also sees the XCR0s
	// that are stored above.
	atomic_store_explicit(
		&vcpus->words[number - 1],
		knowledge << KNOWLEDGE_SHIFT | ((uint64_t)(vcpu.id + 1) & ID_MASK) << ID_SHIFT |
			(vcpu.guest_xcr0 & XCR0_MASK),
		memory_order_release);
}

void vcpus_create(struct vcpus *vcpus, int fd, int id)
{
	struct vcpu_slot *slot;

	vcpus_set(vcpus, fd, (struct vcpu){VCPU_NO_CPUID, id, 0, 0});
	if (slot_number(vcpus, fd) && !has_history(vcpus, fd))
		return;
	vcpus_set_dropped(vcpus, fd, 0);
	slot = counting_slot(vcpus, fd);
	for (unsigned int event = 0; event < VCPU_EVENTS; event++) {
		store(&slot->reported[event], 0);
		if (atomic_load_explicit(&slot->count[event], memory_order_relaxed))
			atomic_store_explicit(&slot->count[event], 0, memory_order_relaxed);
	}
}

uint32_t vcpus_count(struct vcpus *vcpus, int fd, enum vcpu_event event, uint64_t bits)
{
	struct vcpu_slot *slot = counting_slot(vcpus, fd);
	struct rate_limit limit = {
		.reported = load(&slot->reported[event]),
		.count = atomic_load_explicit(&slot->count[event], memory_order_relaxed),
	};
	bool is_reported = rate_limit_allows(&limit, bits);

	store(&slot->reported[event], limit.reported);
	atomic_store_explicit(&slot->count[event], limit.count, memory_order_relaxed);
	return is_reported ? limit.count : 0;
}

uint64_t vcpus_dropped(const struct vcpus *vcpus, int fd)
{
	return has_history(vcpus, fd) ? load(&vcpus->slots[slot_number(vcpus, fd) - 1].dropped) : 0;
}

void vcpus_set_dropped(struct vcpus *vcpus, int fd, uint64_t dropped)
{
	if (slot_number(vcpus, fd) && dropped != vcpus_dropped(vcpus, fd))
		store(&counting_slot(vcpus, fd)->dropped, dropped);
}
