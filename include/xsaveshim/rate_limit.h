// SPDX-License-Identifier: MIT
// Limits how often an event is reported, so that a guest cannot flood the host's log.
//
// These are pure functions and need no libc: a BPF program uses them, too.
#ifndef XSAVESHIM_RATE_LIMIT_H
#define XSAVESHIM_RATE_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

// The history of one kind of event of one vCPU. All zeroes: the event has not happened yet.
struct rate_limit {
	uint64_t reported; // the bits of all occurrences so far
	uint32_t count;	   // of occurrences; stays at UINT32_MAX
};

// Returns true for 1, 10, 100, 1,000 ...
static inline bool is_power_of_ten(uint32_t count)
{
	uint64_t power = 1;

	for (int i = 0; i < 10 && power < count; i++)
		power *= 10;
	return power == count;
}

// Counts one more occurrence of the event. bits: the subject of the event, such as the xfeatures
// that were dropped. Returns true if this occurrence is to be reported: it has a bit that no
// earlier one had, or it is the 1st, 10th, 100th ... of them.
static inline bool rate_limit_allows(struct rate_limit *limit, uint64_t bits)
{
	bool has_new_bit = bits & ~limit->reported;

	limit->reported |= bits;
	if (limit->count < UINT32_MAX)
		limit->count++;
	return has_new_bit || is_power_of_ten(limit->count);
}

#endif
