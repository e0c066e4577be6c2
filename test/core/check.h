// SPDX-License-Identifier: MIT
// Functions that the unit tests of xsaveshim's core share. Each test file has a table of test cases
// for one header of the core (include/xsaveshim/).
#ifndef TEST_CHECK_H
#define TEST_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "xsaveshim/report.h"
#include "xsaveshim/settings.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// The last entry of a table has the sentence NULL.
struct test_case {
	const char *sentence;
	void (*check)(void);
};

extern const struct test_case guest_cpuid_cases[], xstate_cases[], vcpus_cases[], policy_cases[],
	report_cases[], log_cases[], record_cases[], settings_cases[], pair_cases[];

// True if a call of same() or same_text() found a difference.
extern bool failed;

void same(const char *what, uint64_t got, uint64_t expected);
void same_text(const char *what, const char *got, const char *expected);

// Ends the program if done is false: a system call that a test case needs has failed. The function
// is inline, so that static analysis knows that the program ends.
static inline void must(bool done, const char *what)
{
	if (done)
		return;
	perror(what);
	exit(2);
}

// Makes a log whose lines can be read from report_pipe[0].
extern int report_pipe[2];
struct log piped_log(enum log_level level);

// Makes one read(2) of the descriptor. Returns the text, or "" if there is no text. The next call
// overwrites the text.
const char *read_text(int fd);

// A KVM_SET_XSAVE on a vCPU. Most test cases pass this call to the functions that write reports.
extern const struct vcpu_call restore_call;

// A directory over which test cases mount an empty file system. Every system has this directory,
// and few systems use it.
#define SCRATCH "/media"

// Mounts an empty file system over the directory. Only this process sees the file system.
void hide(const char *directory);

// Returns the default settings with one setting changed.
struct settings settings_with(enum setting setting, const char *value);

#endif
