// SPDX-License-Identifier: MIT
// Tests pair.h, which tells whether one host can load the guests that another host saved. For each
// pair of hypothetical hosts, every_pair() compares the answer of pair_judge() with the answer of
// expected_answer(). For each possible guest of one host, expected_answer() checks whether the
// other host can load the guest.
#include "check.h"
#include "xsaveshim/pair.h"
#include "xsaveshim/xstate.h"

// The hypothetical hosts have no xfeatures except x87, SSE and these two.
static const uint64_t beyond[] = {XFEATURE_AVX, XFEATURE_XTILE};

#define CHOICES 4 // the number of subsets of `beyond`

static uint64_t subset(unsigned int choice)
{
	return (choice & 1 ? beyond[0] : 0) | (choice & 2 ? beyond[1] : 0);
}

// Returns true if the host `to` accepts a payload with the xfeatures `payload` for a guest whose
// CPUID shows the xfeatures `shown`.
static bool loads(struct pair_host to, uint64_t shown, uint64_t payload)
{
	// If the guest's CPUID shows AVX or AMX, the guest has XSAVE, so the CPUID also shows x87
	// and SSE.
	uint64_t has = shown ? shown | XFEATURE_FPSSE : 0;

	return !(payload & ~has & to.refuses);
}

// Tries the guests of the host `from` whose CPUID shows only xfeatures that both hosts support,
// among them guests without XSAVE. Returns true if the host `to` loads all of these guests. `leaks`
// are the xfeatures that `from` leaks. `by` is the mode of xsaveshim that runs on one of the hosts
// (enum pair_by), or 0 without xsaveshim. Every mode clears the leaked xfeatures. The library also
// makes KVM accept x87 and SSE for a guest without XSAVE.
static bool all_load(struct pair_host from, struct pair_host to, uint64_t leaks, unsigned int by)
{
	for (unsigned int choice = 0; choice < CHOICES; choice++) {
		uint64_t shown = subset(choice) & from.supported & to.supported;
		uint64_t payload = shown | (by ? 0 : leaks);

		payload |= XFEATURE_FPSSE & ~(shown ? 0 : from.loses);

		if (by & PAIR_BY_LIBRARY)
			payload &= ~XFEATURE_FPSSE;
		if (!loads(to, shown, payload))
			return false;
	}
	return true;
}

static enum pair_answer expected_answer(struct pair_host from, struct pair_host to)
{
	bool any_fails = false, any_loads = false;

	if (!to.destination_known)
		return PAIR_UNKNOWN;
	for (unsigned int choice = 0; choice < CHOICES; choice++) {
		uint64_t leaks = subset(choice);

		if (from.source_known ? leaks != from.leaks : leaks & ~from.enabled)
			continue;
		if (all_load(from, to, leaks, 0))
			any_loads = true;
		else
			any_fails = true;
	}
	if (any_loads && any_fails)
		return PAIR_UNKNOWN;
	return any_fails ? PAIR_WITH_XSAVESHIM : PAIR_YES;
}

static void check_pair(struct pair_host from, struct pair_host to)
{
	struct pair_result got = pair_judge(from, to);
	enum pair_answer expected = expected_answer(from, to);
	uint64_t refused = from.leaks & to.refuses & ~XFEATURE_FPSSE;

	same("answer", got.answer, expected);
	same("no if shown", got.no_if_shown,
	     to.destination_known ? from.supported & ~to.supported : 0);
	same("lost when saved", got.lost_when_saved, from.loses);
	same("needs permission", got.needs_permission,
	     to.destination_known ? from.supported & to.supported & XFEATURE_XTILE : 0);
	for (unsigned int by = 1; by <= PAIR_BY_HOST_MODE_ON_FROM; by <<= 1)
		same("mode that helps", (got.by & by) != 0,
		     expected == PAIR_WITH_XSAVESHIM && all_load(from, to, 0, by));
	same("refused", got.refused, expected == PAIR_WITH_XSAVESHIM ? refused : 0);
	same("only guests without XSAVE need xsaveshim", got.only_guests_without_xsave,
	     expected == PAIR_WITH_XSAVESHIM && !refused &&
		     (from.source_known || !(from.enabled & to.refuses)));
}

// make_host() makes a hypothetical host from each number below HOSTS. make_host() returns false if
// no real host can be like this. For example, no host leaks an xfeature that the host's kernel has
// not enabled in XCR0.
#define HOSTS (CHOICES * CHOICES * CHOICES * CHOICES * 16)

static bool make_host(unsigned int number, struct pair_host *host)
{
	*host = (struct pair_host){
		.source_known = number & 1,
		.destination_known = number >> 1 & 1,
		.refuses = subset(number >> 3 & 3) | (number >> 2 & 1 ? XFEATURE_FPSSE : 0),
		.enabled = subset(number >> 5 & 3),
		.supported = subset(number >> 7 & 3),
		.leaks = subset(number >> 9 & 3),
		.loses = number >> 11 & 1 ? XFEATURE_FPSSE : 0,
	};
	host->needs_permission = host->supported & XFEATURE_XTILE;
	return !((host->leaks | host->supported) & ~host->enabled) &&
	       (host->source_known || !(host->leaks | host->loses));
}

static void every_pair(void)
{
	struct pair_host from, to;
	unsigned int pairs = 0;

	for (unsigned int i = 0; i < HOSTS; i++)
		for (unsigned int j = 0; make_host(i, &from) && j < HOSTS && !failed; j++)
			if (make_host(j, &to)) {
				check_pair(from, to);
				pairs++;
			}
	same("more than 100,000 pairs", pairs > 100000, true);
}

static void equal_hosts(void)
{
	struct pair_host host = {.source_known = true,
				 .destination_known = true,
				 .enabled = XFEATURE_AVX,
				 .supported = XFEATURE_AVX,
				 .leaks = XFEATURE_AVX};

	same("hosts that leak AVX", pair_judge(host, host).answer, PAIR_YES);
	host.refuses = XFEATURE_AVX;
	same("hosts that leak and refuse AVX", pair_judge(host, host).answer, PAIR_WITH_XSAVESHIM);
	same("modes that help", pair_judge(host, host).by, 15);
}

const struct test_case pair_cases[] = {
	{"for over 100,000 pairs of hypothetical hosts, the command xsaveshim pair gives the same answer as a model that tries each possible guest",
	 every_pair},
	{"for two equal hosts that leak AVX, the command xsaveshim pair answers yes; if the hosts also refuse leaked AVX, the answer is with-xsaveshim",
	 equal_hosts},
	{NULL, NULL},
};
