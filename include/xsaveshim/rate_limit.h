// SPDX-License-Identifier: MIT
// Which times of an event that limit itself are reported, so that a guest cannot flood the host's
// log.
//
// Pure functions, which need no libc: a BPF program uses them, too.
#ifndef XSAVESHIM_RATE_LIMIT_H
#define XSAVESHIM_RATE_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

// One kind of event of one vCPU. All zeroes: it has not happened yet.
struct rate_limit {
	uint64_t reported; // the bits of all times so far
	uint32_t count;	   // how many times; stays at UINT32_MAX
};

// 1, 10, 100, 1,000 ...
static inline bool is_power_of_ten(uint32_t count)
{
	uint64_t power = 1;

	for (int i = 0; i < 10 && power < count; i++)
		power *= 10;
	return power == count;
}

// Counts the event once more. bits: what it is about, such as the xfeatures that were dropped. True
// where this time is to be reported: it has a bit that no time before had, or it is the 1st, 10th,
// 100th ... time.
static inline bool rate_limit_allows(struct rate_limit *limit, uint64_t bits)
{
	bool has_new_bit = bits & ~limit->reported;

	limit->reported |= bits;
	if (limit->count < UINT32_MAX)
		limit->count++;
	return has_new_bit || is_power_of_ten(limit->count);
}

#endif
