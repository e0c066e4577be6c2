// SPDX-License-Identifier: MIT
// The wording of reports: each is one line in logfmt.
//
// Thread- and async-signal-safe, without locks or allocation. Only report_open_log changes errno.
#ifndef XSAVESHIM_REPORT_H
#define XSAVESHIM_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "xsaveshim/log.h"
#include "xsaveshim/policy.h"

struct settings;

// A line under construction. The names of all 64 xfeatures fit; a longer text is cut.
struct report_line {
	const struct log *log;
	enum log_level level;
	bool muted; // the log does not take this level: nothing is added or sent
	size_t length;
	char text[1024];
};

// The ioctl and the vCPU of a report.
struct vcpu_call {
	const char *ioctl_name;
	int fd; // -1: not known
	struct vcpu vcpu;
	bool ends_vmm; // abort ends the VMM after this report
};

// count: how often this event has happened to this vCPU. The line shows it from the second time on.

// Writes event=trim, or would-trim if the settings do not trim, if there is something to drop.
void report_trim(const struct log *log, struct vcpu_call call, struct trim_result trim,
		 uint32_t count);

// Writes event=refused. error: the errno of the call, or EINVAL if the log foresees. xstate_bv
// (KVM_SET_XSAVE) or xcr0 (KVM_SET_XCRS): the value that the kernel refused.
void report_refused(const struct log *log, struct vcpu_call call, int error, uint64_t xstate_bv,
		    struct refusal refusal, uint32_t count);
void report_xcr0_refused(const struct log *log, struct vcpu_call call, int error, uint64_t xcr0,
			 struct refusal refusal, uint32_t count);

// Writes event=lost: the guest had enabled xcr0, and the state of lost was dropped before.
void report_lost(const struct log *log, struct vcpu_call call, uint64_t xcr0, uint64_t lost,
		 uint32_t count);

// Writes event=learn, at level debug.
void report_learn(const struct log *log, struct vcpu_call call);

// Writes event=setting, one line for each problem of the settings.
void report_settings(const struct log *log, const struct settings *settings);

// Opens the log and writes event=log if the target could not be opened, and event=setting for each
// problem of the settings. Does nothing if the log is open, or if another thread has opened it at
// the same time. It is not safe in a signal handler if the target cannot be opened.
void report_open_log(struct log *log, const struct settings *settings);

// The pieces of a line, for events that only one mode has. report_text adds quotes if necessary.
void report_begin(struct report_line *line, const struct log *log, enum log_level level,
		  const char *event);
void report_text(struct report_line *line, const char *key, const char *value);
void report_int(struct report_line *line, const char *key, int value);
void report_errno(struct report_line *line, int error);
void report_hex(struct report_line *line, const char *key, uint64_t value);
void report_xfeatures(struct report_line *line, const char *key, uint64_t xfeatures);
void report_vcpu_call(struct report_line *line, struct vcpu_call call);
void report_count(struct report_line *line, uint32_t count);
void report_reason(struct report_line *line, struct refusal refusal);
void report_send(struct report_line *line);

#endif
