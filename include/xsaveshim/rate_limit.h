// SPDX-License-Identifier: MIT
// Limits how often xsaveshim reports an event, so that a guest cannot flood the host's log.
//
// The functions have no global state and use no libc, so that BPF programs can call them.
#ifndef XSAVESHIM_RATE_LIMIT_H
#define XSAVESHIM_RATE_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

// The history of one event, for example: xsaveshim trims a payload of this vCPU. If all fields are
// 0, the event has not happened yet.
struct rate_limit {
	uint64_t reported; // the bits of all occurrences so far: see rate_limit_allows
	uint32_t count;	   // the number of occurrences; never exceeds UINT32_MAX
};

// Returns true for 1, 10, 100, 1,000 ...
static inline bool is_power_of_ten(uint32_t count)
{
	uint64_t power = 1;

	for (int i = 0; i < 10 && power < count; i++)
		power *= 10;
	return power == count;
}

// Counts one more occurrence of the event. bits: the subjects of this occurrence, such as the
// dropped xfeatures. Returns true if xsaveshim must report this occurrence: if the occurrence has a
// bit that no earlier occurrence had, or is the 1st, 10th, 100th and so on.
static inline bool rate_limit_allows(struct rate_limit *limit, uint64_t bits)
{
	bool has_new_bit = bits & ~limit->reported;

	limit->reported |= bits;
	if (limit->count < UINT32_MAX)
		limit->count++;
	return has_new_bit || is_power_of_ten(limit->count);
}

#endif
