// SPDX-License-Identifier: MIT
// What the core's unit tests share. There is a file of tests for each header of the core, with a
// table of cases each.
#ifndef TEST_CHECK_H
#define TEST_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "xsaveshim/report.h"
#include "xsaveshim/settings.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// A table of cases ends with one that has no sentence.
struct test_case {
	const char *sentence;
	void (*check)(void);
};

extern const struct test_case guest_cpuid_cases[], xstate_cases[], vcpus_cases[], policy_cases[],
	report_cases[], log_cases[], record_cases[], settings_cases[];

// Whether any of the following was not the same.
extern bool failed;

void same(const char *what, uint64_t got, uint64_t expected);
void same_text(const char *what, const char *got, const char *expected);

// Ends the program if a system call that a case needs has failed. Inline, so that static analysis
// sees the end.
static inline void must(bool done, const char *what)
{
	if (done)
		return;
	perror(what);
	exit(2);
}

// A log whose lines are read from report_pipe[0].
extern int report_pipe[2];
struct log piped_log(enum log_level level);

// What one read(2) finds there, up to the next call; "" for nothing.
const char *read_text(int fd);

// A call as reports are made of.
extern const struct vcpu_call restore_call;

// A directory that every system has and few use.
#define SCRATCH "/media"

// An empty directory in this one's place, for this process alone.
void hide(const char *directory);

// The defaults but for this one.
struct settings settings_with(enum setting setting, const char *value);

#endif
