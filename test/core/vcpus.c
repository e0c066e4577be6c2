// SPDX-License-Identifier: MIT
// Tests vcpus.h, the table in which xsaveshim's library looks up a vCPU by the vCPU's file
// descriptor.
#include <stdio.h>

#include "check.h"
#include "xsaveshim/rate_limit.h"
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
	snprintf(text, sizeof(text), "%s, enabled XCR0", what);
	same(text, got.enabled_xcr0, expected.enabled_xcr0);
}

static const struct vcpu unknown = {VCPU_UNKNOWN, VCPU_ID_UNKNOWN, 0, 0};

static void vcpus_start_unknown(void)
{
	for (int fd = -1; fd <= VCPUS_MAX; fd++)
		same_vcpu("an untouched descriptor", vcpus_get(&vcpus, fd), unknown);
}

static void vcpus_keep(void)
{
	static const struct vcpu kept[] = {
		{VCPU_NO_CPUID, 0, 0, 0},
		{VCPU_NO_CPUID, VCPU_ID_UNKNOWN, 0, 0},
		{VCPU_XCR0, 0, 0, 0},
		{VCPU_XCR0, 4095, 0x207, 0},
		{VCPU_XCR0, 65534, UINT64_C(0x3fffffffffff), 0},
		{VCPU_XCR0, VCPU_ID_UNKNOWN, UINT64_C(0x200000000000), 0},
		{VCPU_XCR0, 1, UINT64_C(1) << 46, 0},
		{VCPU_XCR0, 1, UINT64_C(1) << 62 | 0x7, 0},
		{VCPU_XCR0, 65534, UINT64_MAX, 0},
		{VCPU_XCR0, 2, 0x3, 0x4},
		{VCPU_XCR0, 2, 0x3, 0},
		{VCPU_UNKNOWN, 3, 0, 0},
	};

	for (size_t i = 0; i < COUNT(kept); i++) {
		vcpus_set(&vcpus, 14, kept[i]);
		same_vcpu("fd 14", vcpus_get(&vcpus, 14), kept[i]);
	}
	same_vcpu("fd 13", vcpus_get(&vcpus, 13), unknown);
	same_vcpu("fd 15", vcpus_get(&vcpus, 15), unknown);
}

static void vcpus_ends(void)
{
	const struct vcpu vcpu = {VCPU_XCR0, 1, 0x7, 0};

	vcpus_set(&vcpus, 0, vcpu);
	vcpus_set(&vcpus, VCPUS_MAX - 1, vcpu);
	same_vcpu("fd 0", vcpus_get(&vcpus, 0), vcpu);
	same_vcpu("fd 65535", vcpus_get(&vcpus, VCPUS_MAX - 1), vcpu);
}

static void vcpus_outside(void)
{
	static const int outside[] = {
		-1, -4096, VCPUS_MAX, VCPUS_MAX + 7, 0x7fffffff, -0x7fffffff - 1};

	for (size_t i = 0; i < COUNT(outside); i++) {
		vcpus_set(&vcpus, outside[i], (struct vcpu){VCPU_XCR0, 1, 0x7, 0});
		same_vcpu("fd outside 0 to 65535", vcpus_get(&vcpus, outside[i]), unknown);
	}
	vcpus_start_unknown();
}

static void vcpus_beyond_the_slots(void)
{
	const struct vcpu vcpu = {VCPU_XCR0, 1, 0x7, 0};

	for (int fd = 0; fd < VCPUS_SLOTS + 10; fd++) {
		vcpus_create(&vcpus, 3 * fd, 1);
		vcpus_set(&vcpus, 3 * fd, vcpu);
		vcpus_set_dropped(&vcpus, 3 * fd, 0x200);
	}
	for (int fd = 0; fd < VCPUS_SLOTS + 10; fd++) {
		bool has_slot = fd < VCPUS_SLOTS;

		same_vcpu("vCPU", vcpus_get(&vcpus, 3 * fd), has_slot ? vcpu : unknown);
		same("dropped", vcpus_dropped(&vcpus, 3 * fd), has_slot ? 0x200 : 0);
		same_vcpu("the next descriptor", vcpus_get(&vcpus, 3 * fd + 1), unknown);
	}
	same("without a slot", vcpus_count(&vcpus, 3 * VCPUS_SLOTS, VCPU_EVENT_TRIM, 0x200), 1);
}

static void vcpus_count_events(void)
{
	static const unsigned int reported[] = {1, 10, 11, 100, 1000};
	size_t next = 0;

	for (unsigned int i = 1; i <= 1000; i++) {
		uint32_t count = vcpus_count(&vcpus, 14, VCPU_EVENT_TRIM, i == 11 ? 0x4 : 0x200);

		if (count) {
			same("event number", count, next < COUNT(reported) ? reported[next] : 0);
			next++;
		}
	}
	same("number of reports", next, COUNT(reported));
	same("count of the first LOST event", vcpus_count(&vcpus, 14, VCPU_EVENT_LOST, 0x200), 1);
	same("count of first event, fd 15", vcpus_count(&vcpus, 15, VCPU_EVENT_TRIM, 0x200), 1);
}

static void vcpus_forget(void)
{
	vcpus_set(&vcpus, 14, (struct vcpu){VCPU_XCR0, 1, 0x3, 0x4});
	vcpus_set_dropped(&vcpus, 14, 0x200);
	for (int i = 0; i < 5; i++)
		vcpus_count(&vcpus, 14, VCPU_EVENT_REFUSED, 0x200);
	same("dropped", vcpus_dropped(&vcpus, 14), 0x200);
	vcpus_create(&vcpus, 14, 7);
	same_vcpu("a new vCPU", vcpus_get(&vcpus, 14), (struct vcpu){VCPU_NO_CPUID, 7, 0, 0});
	same("dropped xfeatures of a new vCPU", vcpus_dropped(&vcpus, 14), 0);
	same("count of a new vCPU's first event",
	     vcpus_count(&vcpus, 14, VCPU_EVENT_REFUSED, 0x200), 1);
	vcpus_set(&vcpus, 14, (struct vcpu){VCPU_XCR0, 7, UINT64_C(1) << 62, 0});
	same_vcpu("a new vCPU with a CPUID table", vcpus_get(&vcpus, 14),
		  (struct vcpu){VCPU_XCR0, 7, UINT64_C(1) << 62, 0});
}

static void counters_never_overflow(void)
{
	struct rate_limit limit = {0x200, UINT32_MAX - 1};

	same("event 4294967295 is reported", rate_limit_allows(&limit, 0x200), false);
	same("event 4294967296 is reported", rate_limit_allows(&limit, 0x200), false);
	same("count", limit.count, UINT32_MAX);
	same("event with a new xfeature is reported", rate_limit_allows(&limit, 0x1), true);
	limit = (struct rate_limit){0, 999999999};
	same("event 1,000,000,000 is reported", rate_limit_allows(&limit, 0), true);
}

const struct test_case vcpus_cases[] = {
	{"at first, the library's vCPU table knows nothing about any file descriptor",
	 vcpus_start_unknown},
	{"the library's vCPU table returns the value that was stored for a file descriptor, and the neighbouring descriptors stay unknown",
	 vcpus_keep},
	{"the library's vCPU table can store an entry for the lowest file descriptor, 0, and for the highest, 65535",
	 vcpus_ends},
	{"the library's vCPU table stores nothing for a file descriptor that is negative or above 65535",
	 vcpus_outside},
	{"the library's vCPU table has space for 4,096 vCPUs, and knows nothing about any further vCPU",
	 vcpus_beyond_the_slots},
	{"for each vCPU and kind of event, the library reports the events 1, 10, 100 and 1,000, and each event with an xfeature that no earlier event had",
	 vcpus_count_events},
	{"if a new vCPU gets the descriptor number of a closed vCPU, the library discards the closed vCPU's data and event counts",
	 vcpus_forget},
	{"if a 32-bit event count is at its maximum, the count stays there, and xsaveshim reports only events with an xfeature that no earlier event had",
	 counters_never_overflow},
	{NULL, NULL},
};
