// SPDX-License-Identifier: MIT
// The wording of reports: one logfmt line each.
//
// Thread- and async-signal-safe on a log that is open, but for report_log_failure. No function here
// allocates, locks or changes errno.
#ifndef XSAVESHIM_REPORT_H
#define XSAVESHIM_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "xsaveshim/log.h"
#include "xsaveshim/policy.h"

struct settings;

// A line being made: everything that does not fit is cut. The names of all 64 xfeatures fit.
struct report_line {
	const struct log *log;
	enum log_level level;
	bool muted; // the log does not take this level: nothing is added or sent
	size_t length;
	char text[1024];
};

// Which ioctl on which vCPU a report is about.
struct vcpu_call {
	const char *ioctl_name;
	int fd; // -1: not known
	struct vcpu vcpu;
};

// count, in each of the following: which time of this event on this vCPU the report is about. From
// the second on the line says it.

// event=trim, or event=would-trim where the settings keep the payload as it is. Says nothing where
// nothing is to drop.
void report_trim(const struct log *log, struct vcpu_call call, struct trim_result trim,
		 uint32_t count);

// event=refused. error is the errno of the call. xstate_bv (of KVM_SET_XSAVE) or xcr0 (of
// KVM_SET_XCRS), and refusal, are of what the kernel saw.
void report_refused(const struct log *log, struct vcpu_call call, int error, uint64_t xstate_bv,
		    struct refusal refusal, uint32_t count);
void report_xcr0_refused(const struct log *log, struct vcpu_call call, int error, uint64_t xcr0,
			 struct refusal refusal, uint32_t count);

// event=lost: the guest had enabled xcr0, and the state of the xfeatures in lost was dropped
// before.
void report_lost(const struct log *log, struct vcpu_call call, uint64_t xcr0, uint64_t lost,
		 uint32_t count);

// event=learn, at level debug.
void report_learn(const struct log *log, struct vcpu_call call);

// event=setting: one line for each problem that the settings have.
void report_settings(const struct log *log, const struct settings *settings);

// event=log: the log's target could not be opened, for this errno. Not async-signal-safe.
void report_log_failure(const struct log *log, const char *target, int error);

// The pieces of a line, for events of one mode alone. report_text quotes what logfmt needs quoted.
void report_begin(struct report_line *line, const struct log *log, enum log_level level,
		  const char *event);
void report_text(struct report_line *line, const char *key, const char *value);
void report_int(struct report_line *line, const char *key, int value);
void report_hex(struct report_line *line, const char *key, uint64_t value);
void report_xfeatures(struct report_line *line, const char *key, uint64_t xfeatures);
void report_vcpu_call(struct report_line *line, struct vcpu_call call);
void report_count(struct report_line *line, uint32_t count);
void report_reason(struct report_line *line, struct refusal refusal);
void report_send(struct report_line *line);

#endif
