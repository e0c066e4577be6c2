// SPDX-License-Identifier: MIT
// Reports: one logfmt line each, in one write(2). Not one of them allocates, locks or leaves errno changed.
//
// report_open opens what the settings name and belongs in a constructor or in main; all else here is thread- and
// async-signal-safe on a log that is open.
#ifndef XSAVESHIM_REPORT_H
#define XSAVESHIM_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "xsaveshim/policy.h"
#include "xsaveshim/settings.h"
#include "xsaveshim/vcpus.h"

struct report_log {
	int fd;			// -1: reports go nowhere
	int fallback_fd;	// where a line goes that fd does not take; -1: nowhere
	enum log_level level;
	bool syslog;		// fd is a socket to /dev/log
	const char *via;	// a tag for every line, or NULL
};

// A line being made: everything that does not fit is cut. The names of all 64 xfeatures fit.
struct report_line {
	const struct report_log *log;
	size_t length;		// 0: this level is not logged, and nothing is added or sent
	enum log_level level;
	char text[1024];
};

// Which ioctl on which vCPU a report is about.
struct vcpu_call {
	const char *ioctl;
	int fd;
	struct vcpu vcpu;
};

// Opens the log that the settings name (a file: appended to, created with mode 0600, never through a symbolic link) and reports
// the settings' problems into it. A target that cannot be opened is reported to stderr, which is used instead; a process started
// without a stderr has none.
void report_open(struct report_log *log, const struct settings *settings);

// event=trim, or event=would-trim where the settings keep the payload as it is. Says nothing where nothing is to drop.
void report_trim(const struct report_log *log, struct vcpu_call call, struct trim trim);

// event=refused. error is the errno of the call, xstate_bv and refusal are of the payload that the kernel saw.
void report_refused(const struct report_log *log, struct vcpu_call call, int error, uint64_t xstate_bv,
		    struct refusal refusal);

// event=learn, at level debug.
void report_learn(const struct report_log *log, struct vcpu_call call);

// The pieces of a line, for events of one front door alone. report_text quotes what logfmt needs quoted.
void report_begin(struct report_line *line, const struct report_log *log, enum log_level level, const char *event);
void report_text(struct report_line *line, const char *key, const char *value);
void report_int(struct report_line *line, const char *key, int value);
void report_hex(struct report_line *line, const char *key, uint64_t value);
void report_vcpu_call(struct report_line *line, struct vcpu_call call);
void report_reason(struct report_line *line, struct refusal refusal);
void report_send(struct report_line *line);

#endif
