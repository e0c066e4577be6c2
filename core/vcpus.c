// SPDX-License-Identifier: MIT
#include "xsaveshim/vcpus.h"

#include <assert.h>

// One word a vCPU: guest XCR0 in bits 0 to 45, the vCPU id plus one in bits 46 to 61, what is known in bits 62 and 63.
#define ID_SHIFT 46
#define ID_MASK UINT64_C(0xffff)
#define KNOWLEDGE_SHIFT 62
#define XCR0_MASK ((UINT64_C(1) << ID_SHIFT) - 1)

static_assert(sizeof(_Atomic uint64_t) == 8, "512 vCPUs a page");
static_assert(VCPU_UNKNOWN == 0 && VCPU_XCR0 <= 3, "a zeroed table knows nothing, and two bits hold what is known");

struct vcpu vcpus_get(const struct vcpus *vcpus, int fd)
{
	uint64_t word = 0;

	if (fd >= 0 && fd < VCPUS_MAX)
		word = atomic_load_explicit(&vcpus->words[fd], memory_order_relaxed);
	return (struct vcpu){
		.knowledge = (enum vcpu_knowledge)(word >> KNOWLEDGE_SHIFT),
		.id = (int)(word >> ID_SHIFT & ID_MASK) - 1,
		.guest_xcr0 = word & XCR0_MASK,
	};
}

void vcpus_set(struct vcpus *vcpus, int fd, struct vcpu vcpu)
{
	uint64_t word = 0;

	if (fd < 0 || fd >= VCPUS_MAX)
		return;
	if (!(vcpu.guest_xcr0 & ~XCR0_MASK))
		word = (uint64_t)vcpu.knowledge << KNOWLEDGE_SHIFT | ((uint64_t)(vcpu.id + 1) & ID_MASK) << ID_SHIFT |
		       vcpu.guest_xcr0;
	atomic_store_explicit(&vcpus->words[fd], word, memory_order_relaxed);
}
