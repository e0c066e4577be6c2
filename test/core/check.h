// SPDX-License-Identifier: MIT
// Functions that the unit tests in test/core/ share. Each file of unit tests has a table of test
// cases for one header in include/xsaveshim/.
#ifndef TEST_CHECK_H
#define TEST_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "xsaveshim/report.h"
#include "xsaveshim/settings.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// The sentence is the test case's name. The last entry of a table has the sentence NULL.
struct test_case {
	const char *sentence;
	void (*check)(void);
};

extern const struct test_case guest_cpuid_cases[], xstate_cases[], vcpus_cases[], policy_cases[],
	report_cases[], log_cases[], record_cases[], settings_cases[], pair_cases[];

// same() and same_text() set `failed` to true if `got` differs from `expected`.
extern bool failed;

void same(const char *what, uint64_t got, uint64_t expected);
void same_text(const char *what, const char *got, const char *expected);

// If `done` is false, prints `what` and errno, and ends the program. `done` says whether a call
// that the test case needs, such as open(2), succeeded. must() is inline, so that static analysis
// sees the exit().
static inline void must(bool done, const char *what)
{
	if (done)
		return;
	perror(what);
	exit(2);
}

// piped_log() makes a log whose lines the test case reads from report_pipe[0].
extern int report_pipe[2];
struct log piped_log(enum log_level level);

// Calls read(2) once. Returns the text that was read, or "" if read(2) fails or reads nothing. The
// next call of read_text() overwrites the text.
const char *read_text(int fd);

// Describes a KVM_SET_XSAVE call. Test cases pass it to functions of report.h, such as
// report_trim(), which write a report about this call.
extern const struct vcpu_call restore_call;

// Test cases mount an empty file system over this directory. Every system has /media, and few
// systems use /media.
#define SCRATCH "/media"

// Mounts an empty file system over the directory, in a mount namespace that only this process uses.
void hide(const char *directory);

// Returns the default settings with one change: `setting` has the value `value`.
struct settings settings_with(enum setting setting, const char *value);

#endif
