// SPDX-License-Identifier: MIT
// Runs the unit tests of xsaveshim's core, whose headers are in include/xsaveshim/. Without an
// argument, this program prints the names of all test cases. Each name is a sentence. With a name
// as its argument, the program runs this test case.
#include <stdio.h>
#include <string.h>

#include "check.h"

static const struct test_case *const tables[] = {
	guest_cpuid_cases, xstate_cases, vcpus_cases,	 policy_cases, report_cases,
	log_cases,	   record_cases, settings_cases, pair_cases,
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < COUNT(tables); i++) {
		for (const struct test_case *test = tables[i]; test->sentence; test++) {
			if (argc < 2) {
				puts(test->sentence);
			} else if (!strcmp(argv[1], test->sentence)) {
				test->check();
				return failed;
			}
		}
	}
	if (argc < 2)
		return 0;
	fprintf(stderr, "core: no such case: %s\n", argv[1]);
	return 2;
}
