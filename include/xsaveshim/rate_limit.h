// SPDX-License-Identifier: MIT
// Limits how often xsaveshim reports an event, so that a guest cannot flood the host's log.
//
// The functions have no global state and use no libc, so that BPF programs can call them.
#ifndef XSAVESHIM_RATE_LIMIT_H
#define XSAVESHIM_RATE_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

// The history of one kind of event, for example of the trims of one vCPU's payloads. If all fields
// are 0, no such event has happened yet.
struct rate_limit {
	uint64_t reported; // all bits of these events: see the parameter bits below
	uint32_t count;	   // the number of these events; stops at UINT32_MAX
};

// Returns true for 1, 10, 100, 1,000 ...
static inline bool is_power_of_ten(uint32_t count)
{
	uint64_t power = 1;

	for (int i = 0; i < 10 && power < count; i++)
		power *= 10;
	return power == count;
}

// Counts one more event. bits: a bit for each thing that this event is about, for example for each
// dropped xfeature. Returns true if xsaveshim must report this event: if bits has a bit that no
// earlier event had, or if this event is the 1st, 10th, 100th and so on.
static inline bool rate_limit_allows(struct rate_limit *limit, uint64_t bits)
{
	bool has_new_bit = bits & ~limit->reported;

	limit->reported |= bits;
	if (limit->count < UINT32_MAX)
		limit->count++;
	return has_new_bit || is_power_of_ten(limit->count);
}

#endif
