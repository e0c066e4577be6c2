// SPDX-License-Identifier: MIT
// Writes reports of events into the log. Each report is one line in logfmt: words of the form
// key=value.
//
// All functions are thread-safe, and all except report_open_log are async-signal-safe. No function
// takes a lock or allocates memory. Only report_open_log changes errno.
#ifndef XSAVESHIM_REPORT_H
#define XSAVESHIM_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "xsaveshim/log.h"
#include "xsaveshim/policy.h"

struct settings;

// A report's line while the line is being built. The text has space for the names of all 64
// xfeatures. If the text does not fit, its end is cut off.
struct report_line {
	const struct log *log;
	enum log_level level;
	bool muted; // true if the log writes no lines of this level, so report_send does nothing
	size_t length;
	char text[1024];
};

// The ioctl and the vCPU that a report is about.
struct vcpu_call {
	const char *ioctl_name;
	int fd; // the vCPU's descriptor, or -1 if the descriptor is not known
	struct vcpu vcpu;
	bool ends_vmm; // true if XSAVESHIM_REFUSED=abort ends the VMM after this report
};

// In the following functions, count is how often the event has happened to the vCPU. The line shows
// count only if count is at least 2.

// Writes event=trim, or event=would-trim if the settings forbid xsaveshim to trim the payload.
// Writes nothing if the payload has no xfeature to drop.
void report_trim(const struct log *log, struct vcpu_call call, struct trim_result trim,
		 uint32_t count);

// Writes event=refused for KVM_SET_XSAVE. error: the errno of the call. If log->foresees is true,
// the kernel has not executed the call yet, and error is EINVAL. xstate_bv: the XSTATE_BV that KVM
// refuses.
void report_refused(const struct log *log, struct vcpu_call call, int error, uint64_t xstate_bv,
		    struct refusal refusal, uint32_t count);

// Writes event=refused for KVM_SET_XCRS. error has the same meaning as in report_refused. xcr0: the
// XCR0 that KVM refused.
void report_xcr0_refused(const struct log *log, struct vcpu_call call, int error, uint64_t xcr0,
			 struct refusal refusal, uint32_t count);

// Writes event=lost. xcr0: the XCR0 that the guest had enabled. lost: the xfeatures of xcr0 whose
// state xsaveshim dropped.
void report_lost(const struct log *log, struct vcpu_call call, uint64_t xcr0, uint64_t lost,
		 uint32_t count);

// Writes event=learn at level debug: xsaveshim has read a CPUID table of the vCPU. If
// call.vcpu.knowledge is VCPU_XCR0, the line shows the guest XCR0, and the xfeatures that the
// vCPU's payload may have.
void report_learn(const struct log *log, struct vcpu_call call);

// Writes one line with event=setting for each problem in settings->problem[]. If problem[] is
// too small for all problems, one more line has the number of the problems that did not fit.
void report_settings(const struct log *log, const struct settings *settings);

// Opens the log. If the log's target, a file or syslog, cannot be opened, writes event=log. Then
// writes event=setting for each problem of the settings. Does nothing if the log is already open,
// or if another thread opens the log at the same time. If the target cannot be opened,
// report_open_log is not async-signal-safe, because log_open calls strerror(3).
void report_open_log(struct log *log, const struct settings *settings);

// The following functions build the line of an event of any kind. report_begin begins the line, and
// report_send sends the line to the log. report_text puts the value in quotes if logfmt
// requires them, for example because of a space.
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
