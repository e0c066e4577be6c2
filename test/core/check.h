// SPDX-License-Identifier: MIT
// The core's unit tests share these functions. Each header of the core has a file of tests with a
// table of cases.
#ifndef TEST_CHECK_H
#define TEST_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "xsaveshim/report.h"
#include "xsaveshim/settings.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// The sentence of a table's last case is NULL.
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

// Ends the program if a system call that a case needs has failed. This function is inline, so that
// static analysis knows that the program ends.
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

// Returns the text that one read(2) of the descriptor gives, or "" if there is none. The next call
// overwrites the text.
const char *read_text(int fd);

// The reports of the tests are about this call, a KVM_SET_XSAVE on a vCPU.
extern const struct vcpu_call restore_call;

// Every system has this directory, and few systems use it.
#define SCRATCH "/media"

// Mounts an empty file system over the directory, visible to this process only.
void hide(const char *directory);

// Returns the default settings with one setting changed.
struct settings settings_with(enum setting setting, const char *value);

#endif
