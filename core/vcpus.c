// SPDX-License-Identifier: MIT
#include "xsaveshim/vcpus.h"

#include <assert.h>

#include "xsaveshim/rate_limit.h"

// A vCPU's word has the guest XCR0 in bits 0 to 45, the vCPU's id plus one in bits 46 to 61, and an
// enum vcpu_knowledge in bits 62 and 63, or XCR0_IN_DETAILS: a VCPU_XCR0 with XCR0s in the details.
#define ID_SHIFT 46
#define ID_MASK UINT64_C(0xffff)
#define KNOWLEDGE_SHIFT 62
#define XCR0_MASK ((UINT64_C(1) << ID_SHIFT) - 1)
#define XCR0_IN_DETAILS 3

static_assert(sizeof(_Atomic uint64_t) == 8, "a page has 512 words");
static_assert(VCPU_UNKNOWN == 0 && VCPU_XCR0 < XCR0_IN_DETAILS,
	      "a zeroed table knows nothing, and two bits hold the knowledge");

static bool is_inside(int fd)
{
	return fd >= 0 && fd < VCPUS_MAX;
}

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

// Does not touch the page if it holds this value already.
static void store(_Atomic uint64_t *word, uint64_t value)
{
	if (load(word) != value)
		atomic_store_explicit(word, value, memory_order_relaxed);
}

struct vcpu vcpus_get(const struct vcpus *vcpus, int fd)
{
	uint64_t word =
		is_inside(fd) ? atomic_load_explicit(&vcpus->words[fd], memory_order_acquire) : 0;
	unsigned int knowledge = (unsigned int)(word >> KNOWLEDGE_SHIFT);
	struct vcpu vcpu = {
		.knowledge =
			knowledge == XCR0_IN_DETAILS ? VCPU_XCR0 : (enum vcpu_knowledge)knowledge,
		.id = (int)(word >> ID_SHIFT & ID_MASK) - 1,
		.guest_xcr0 = word & XCR0_MASK,
	};

	if (knowledge == XCR0_IN_DETAILS) {
		vcpu.guest_xcr0 = load(&vcpus->details[fd].guest_xcr0);
		vcpu.enabled_xcr0 = load(&vcpus->details[fd].enabled_xcr0);
	}
	return vcpu;
}

void vcpus_set(struct vcpus *vcpus, int fd, struct vcpu vcpu)
{
	uint64_t knowledge = vcpu.knowledge, id = (uint64_t)(vcpu.id + 1) & ID_MASK;

	if (!is_inside(fd))
		return;
	if (vcpu.enabled_xcr0 || vcpu.guest_xcr0 & ~XCR0_MASK) {
		knowledge = XCR0_IN_DETAILS;
		store(&vcpus->details[fd].guest_xcr0, vcpu.guest_xcr0);
		store(&vcpus->details[fd].enabled_xcr0, vcpu.enabled_xcr0);
	}
	// Release: a thread that sees XCR0_IN_DETAILS also sees the details.
	atomic_store_explicit(
		&vcpus->words[fd],
		knowledge << KNOWLEDGE_SHIFT | id << ID_SHIFT | (vcpu.guest_xcr0 & XCR0_MASK),
		memory_order_release);
}

void vcpus_create(struct vcpus *vcpus, int fd, int id)
{
	struct vcpu_details *details;

	if (!is_inside(fd))
		return;
	details = &vcpus->details[fd];
	store(&details->dropped, 0);
	for (unsigned int event = 0; event < VCPU_EVENTS; event++) {
		store(&details->reported[event], 0);
		if (atomic_load_explicit(&details->count[event], memory_order_relaxed))
			atomic_store_explicit(&details->count[event], 0, memory_order_relaxed);
	}
	vcpus_set(vcpus, fd, (struct vcpu){VCPU_NO_CPUID, id, 0, 0});
}

uint32_t vcpus_count(struct vcpus *vcpus, int fd, enum vcpu_event event, uint64_t bits)
{
	struct vcpu_details *details = &vcpus->details[(unsigned int)fd % VCPUS_MAX];
	struct rate_limit limit = {
		.reported = load(&details->reported[event]),
		.count = atomic_load_explicit(&details->count[event], memory_order_relaxed),
	};
	bool is_reported = rate_limit_allows(&limit, bits);

	store(&details->reported[event], limit.reported);
	atomic_store_explicit(&details->count[event], limit.count, memory_order_relaxed);
	return is_reported ? limit.count : 0;
}

uint64_t vcpus_dropped(const struct vcpus *vcpus, int fd)
{
	return is_inside(fd) ? load(&vcpus->details[fd].dropped) : 0;
}

void vcpus_set_dropped(struct vcpus *vcpus, int fd, uint64_t dropped)
{
	if (is_inside(fd))
		store(&vcpus->details[fd].dropped, dropped);
}
