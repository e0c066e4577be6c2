// SPDX-License-Identifier: MIT
// vcpus.h: the table of vCPUs by descriptor.
#include <stdio.h>

#include "check.h"
#include "xsaveshim/vcpus.h"

static struct vcpus vcpus;

static void same_vcpu(const char *what, struct vcpu got, struct vcpu expected)
{
	char text[64];

	snprintf(text, sizeof(text), "%s, knowledge", what);
	same(text, got.knowledge, expected.knowledge);
	snprintf(text, sizeof(text), "%s, id", what);
	same(text, (uint64_t)got.id, (uint64_t)expected.id);
	snprintf(text, sizeof(text), "%s, guest XCR0", what);
	same(text, got.guest_xcr0, expected.guest_xcr0);
}

static const struct vcpu unknown = {VCPU_UNKNOWN, VCPU_ID_UNKNOWN, 0};

static void vcpus_start_unknown(void)
{
	for (int fd = 0; fd < VCPUS_MAX; fd++)
		same_vcpu("a descriptor inside", vcpus_get(&vcpus, fd), unknown);
}

static void vcpus_keep(void)
{
	static const struct vcpu kept[] = {
		{VCPU_NO_CPUID, 0, 0},
		{VCPU_NO_CPUID, VCPU_ID_UNKNOWN, 0},
		{VCPU_XCR0, 0, 0},
		{VCPU_XCR0, 4095, 0x207},
		{VCPU_XCR0, 65534, UINT64_C(0x3fffffffffff)},
		{VCPU_XCR0, VCPU_ID_UNKNOWN, UINT64_C(0x200000000000)},
		{VCPU_UNKNOWN, 3, 0},
	};

	for (size_t i = 0; i < COUNT(kept); i++) {
		vcpus_set(&vcpus, 14, kept[i]);
		same_vcpu("as set", vcpus_get(&vcpus, 14), kept[i]);
	}
	same_vcpu("the one before", vcpus_get(&vcpus, 13), unknown);
	same_vcpu("the one after", vcpus_get(&vcpus, 15), unknown);
}

static void vcpus_ends(void)
{
	const struct vcpu vcpu = {VCPU_XCR0, 1, 0x7};

	vcpus_set(&vcpus, 0, vcpu);
	vcpus_set(&vcpus, VCPUS_MAX - 1, vcpu);
	same_vcpu("fd 0", vcpus_get(&vcpus, 0), vcpu);
	same_vcpu("fd 65535", vcpus_get(&vcpus, VCPUS_MAX - 1), vcpu);
}

static void vcpus_outside(void)
{
	static const int outside[] = {-1, -4096, VCPUS_MAX, VCPUS_MAX + 7, 0x7fffffff, -0x7fffffff - 1};

	for (size_t i = 0; i < COUNT(outside); i++) {
		vcpus_set(&vcpus, outside[i], (struct vcpu){VCPU_XCR0, 1, 0x7});
		same_vcpu("outside", vcpus_get(&vcpus, outside[i]), unknown);
	}
	vcpus_start_unknown();
}

static void vcpus_bits_above_45(void)
{
	vcpus_set(&vcpus, 14, (struct vcpu){VCPU_XCR0, 1, 0x7});
	vcpus_set(&vcpus, 14, (struct vcpu){VCPU_XCR0, 1, UINT64_C(1) << 46});
	same_vcpu("bit 46", vcpus_get(&vcpus, 14), unknown);
	vcpus_set(&vcpus, 14, (struct vcpu){VCPU_XCR0, 1, UINT64_C(1) << 63 | 0x7});
	same_vcpu("bit 63", vcpus_get(&vcpus, 14), unknown);
}

const struct test_case vcpus_cases[] = {
	{"every descriptor starts out unknown", vcpus_start_unknown},
	{"what is set for a vCPU is kept, and its neighbours stay as they were", vcpus_keep},
	{"the first and the last descriptor of the table are kept apart", vcpus_ends},
	{"a descriptor outside the table stays unknown and changes nothing", vcpus_outside},
	{"a guest XCR0 with a bit above 45 makes the vCPU unknown", vcpus_bits_above_45},
	{NULL, NULL},
};
