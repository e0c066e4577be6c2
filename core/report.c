// SPDX-License-Identifier: MIT
// This file does not call snprintf(), which is not async-signal-safe and needs more stack than some
// threads have.
#include "xsaveshim/report.h"

#include <errno.h>
#include <string.h>

#include "xsaveshim/settings.h"
#include "xsaveshim/xstate.h"

static const char *const level_names[] = {
	[LOG_LEVEL_NOTICE] = "notice", [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_DEBUG] = "debug"};

static void add_char(struct report_line *line, char c)
{
	// Leave the last byte of the text free for the newline.
	if (!line->muted && line->length < sizeof(line->text) - 1)
		line->text[line->length++] = c;
}

// The attribute noinline, here and below, makes the code some KiB smaller.
static __attribute__((noinline)) void add(struct report_line *line, const char *text)
{
	while (*text)
		add_char(line, *text++);
}

static __attribute__((noinline)) void
add_number(struct report_line *line, uint64_t value, unsigned int base)
{
	char digits[20];
	size_t count = 0;

	do
		digits[count++] = "0123456789abcdef"[value % base];
	while (value /= base);
	while (count)
		add_char(line, digits[--count]);
}

static __attribute__((noinline)) void add_key(struct report_line *line, const char *key)
{
	add(line, " ");
	add(line, key);
	add(line, "=");
}

static void add_hex(struct report_line *line, uint64_t value)
{
	add(line, "0x");
	add_number(line, value, 16);
}

static void add_xfeatures(struct report_line *line, uint64_t xfeatures)
{
	for (unsigned int bit = 0; bit < 64; bit++) {
		if (!(xfeatures >> bit & 1))
			continue;
		if (xfeature_name(bit)) {
			add(line, xfeature_name(bit));
		} else {
			add(line, "bit");
			add_number(line, bit, 10);
		}
		if (bit < 63 && xfeatures >> (bit + 1))
			add(line, ",");
	}
}

void report_begin(struct report_line *line, const struct log *log, enum log_level level,
		  const char *event)
{
	int pid;

	line->log = log;
	line->level = level;
	line->length = 0;
	line->muted = !log_takes(log, level);
	add(line, "xsaveshim:");
	report_text(line, "level", level_names[level]);
	report_text(line, "event", event);
	if (log->via)
		report_text(line, "via", log->via);
	pid = atomic_load_explicit(&log->pid, memory_order_relaxed);
	if (pid)
		report_int(line, "pid", pid);
	for (const struct log_field *field = log->fields; field && field->key; field++)
		report_text(line, field->key, field->value);
}

static bool is_bare(const char *value)
{
	const char *c = value;

	while (*c > ' ' && !strchr("\"=\\\x7f", *c))
		c++;
	return *value && !*c;
}

void report_text(struct report_line *line, const char *key, const char *value)
{
	add_key(line, key);
	if (is_bare(value)) {
		add(line, value);
		return;
	}
	add(line, "\"");
	for (; *value; value++)
		add_char(line, *value < ' ' || strchr("\"\\\x7f", *value) ? '?' : *value);
	add(line, "\"");
}

void report_int(struct report_line *line, const char *key, int value)
{
	add_key(line, key);
	if (value < 0)
		add(line, "-");
	add_number(line, value < 0 ? (uint64_t) - (int64_t)value : (uint64_t)value, 10);
}

void report_hex(struct report_line *line, const char *key, uint64_t value)
{
	add_key(line, key);
	add_hex(line, value);
}

void report_xfeatures(struct report_line *line, const char *key, uint64_t xfeatures)
{
	add_key(line, key);
	add_xfeatures(line, xfeatures);
}

void report_count(struct report_line *line, uint32_t count)
{
	if (count <= 1)
		return;
	add_key(line, "count");
	add_number(line, count, 10);
}

void report_vcpu_call(struct report_line *line, struct vcpu_call call)
{
	report_text(line, "ioctl", call.ioctl_name);
	if (call.vcpu.id == VCPU_ID_UNKNOWN)
		report_text(line, "vcpu", "?");
	else
		report_int(line, "vcpu", call.vcpu.id);
	if (call.fd >= 0)
		report_int(line, "fd", call.fd);
}

void report_send(struct report_line *line)
{
	if (!line->muted)
		log_write(line->log, line->level, line->text, line->length);
}

void report_trim(const struct log *log, struct vcpu_call call, struct trim_result trim,
		 uint32_t count)
{
	uint64_t dropped = trim.xstate_bv & ~trim.allowed;
	struct report_line line;

	if (!dropped)
		return;
	report_begin(&line, log, LOG_LEVEL_NOTICE,
		     trim.after == trim.xstate_bv ? "would-trim" : "trim");
	report_vcpu_call(&line, call);
	report_hex(&line, "xstate_bv", trim.xstate_bv);
	report_hex(&line, "allowed", trim.allowed);
	report_hex(&line, "after", trim.after);
	report_xfeatures(&line, "dropped", dropped);
	report_count(&line, count);
	report_send(&line);
}

// Returns the name of an errno that KVM's calls, a seccomp filter or a dead supervisor may cause.
// Returns NULL for any other errno.
static const char *error_name(int error)
{
	static const struct {
		int error;
		const char *name;
	} errors[] = {{EINVAL, "EINVAL"}, {EFAULT, "EFAULT"}, {EIO, "EIO"},	{EINTR, "EINTR"},
		      {ENOMEM, "ENOMEM"}, {ENOSYS, "ENOSYS"}, {EPERM, "EPERM"}, {EACCES, "EACCES"},
		      {EBADF, "EBADF"},	  {ENOTTY, "ENOTTY"}, {E2BIG, "E2BIG"}, {EBUSY, "EBUSY"}};

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (errors[i].error == error)
			return errors[i].name;
	return NULL;
}

void report_errno(struct report_line *line, int error)
{
	if (error_name(error))
		report_text(line, "errno", error_name(error));
	else
		report_int(line, "errno", error);
}

typedef void add_fn(struct report_line *line, uint64_t value);

// Adds a reason why KVM refused the call, and the value if add_value is not NULL. If the value is
// 0, adds nothing.
static void add_reason(struct report_line *line, const char **separator, const char *reason,
		       add_fn *add_value, uint64_t value)
{
	if (!value)
		return;
	add(line, *separator);
	add(line, reason);
	if (add_value)
		add_value(line, value);
	*separator = ";";
}

void report_reason(struct report_line *line, struct refusal refusal)
{
	const char *next = "";

	add_key(line, "reason");
	add_reason(line, &next, "host-lacks:", add_xfeatures, refusal.host_lacks);
	add_reason(line, &next, "not-permitted:", add_xfeatures, refusal.not_permitted);
	add_reason(line, &next, "guest-lacks:", add_xfeatures, refusal.guest_lacks);
	add_reason(line, &next, "xcomp-bv:", add_hex, refusal.xcomp_bv);
	add_reason(line, &next, "reserved-bytes", NULL, refusal.reserved_bytes);
	add_reason(line, &next, "mxcsr:", add_hex, refusal.mxcsr);
	if (!*next)
		add(line, "unknown");
}

static void add_foreseen(struct report_line *line)
{
	if (line->log->foresees)
		report_text(line, "foreseen", "yes");
}

static void report_refusal(const struct log *log, struct vcpu_call call, int error, const char *key,
			   uint64_t value, struct refusal refusal, uint32_t count)
{
	struct report_line line;

	report_begin(&line, log, LOG_LEVEL_ERROR, "refused");
	report_vcpu_call(&line, call);
	// If xsaveshim writes the report before the kernel executes the call (log->foresees), there
	// is no errno yet.
	if (!log->foresees)
		report_errno(&line, error);
	report_hex(&line, key, value);
	add_foreseen(&line);
	if (error == EINVAL)
		report_reason(&line, refusal);
	else
		report_text(&line, "reason", "not-the-payload");
	if (call.ends_vmm)
		report_text(&line, "action", "abort");
	report_count(&line, count);
	report_send(&line);
}

void report_refused(const struct log *log, struct vcpu_call call, int error, uint64_t xstate_bv,
		    struct refusal refusal, uint32_t count)
{
	report_refusal(log, call, error, "xstate_bv", xstate_bv, refusal, count);
}

void report_xcr0_refused(const struct log *log, struct vcpu_call call, int error, uint64_t xcr0,
			 struct refusal refusal, uint32_t count)
{
	report_refusal(log, call, error, "xcr0", xcr0, refusal, count);
}

void report_lost(const struct log *log, struct vcpu_call call, uint64_t xcr0, uint64_t lost,
		 uint32_t count)
{
	struct report_line line;

	report_begin(&line, log, LOG_LEVEL_ERROR, "lost");
	report_vcpu_call(&line, call);
	report_hex(&line, "xcr0", xcr0);
	add_foreseen(&line);
	report_xfeatures(&line, "lost", lost);
	if (call.ends_vmm)
		report_text(&line, "action", "abort");
	report_count(&line, count);
	report_send(&line);
}

void report_learn(const struct log *log, struct vcpu_call call)
{
	struct report_line line;

	report_begin(&line, log, LOG_LEVEL_DEBUG, "learn");
	report_vcpu_call(&line, call);
	if (call.vcpu.knowledge == VCPU_XCR0) {
		report_hex(&line, "guest_xcr0", call.vcpu.guest_xcr0);
		report_hex(&line, "allowed", policy_allowed(call.vcpu));
	}
	report_send(&line);
}

static void report_problem(const struct log *log, const struct settings_problem *problem)
{
	struct report_line line;

	report_begin(&line, log, LOG_LEVEL_ERROR, "setting");
	report_text(&line, "source", problem->source);
	if (problem->line)
		report_int(&line, "line", (int)problem->line);
	report_text(&line, "key", problem->key);
	report_text(&line, "value", problem->value);
	report_text(&line, "using", problem->used ? problem->used : "nothing-of-it");
	if (problem->accepted)
		report_text(&line, "accepted", problem->accepted);
	report_send(&line);
}

void report_settings(const struct log *log, const struct settings *settings)
{
	const unsigned int kept = sizeof(settings->problem) / sizeof(settings->problem[0]);
	struct report_line line;

	for (unsigned int i = 0; i < settings->problems && i < kept; i++)
		report_problem(log, &settings->problem[i]);
	if (settings->problems > kept) {
		report_begin(&line, log, LOG_LEVEL_ERROR, "setting");
		report_int(&line, "further-problems", (int)(settings->problems - kept));
		report_send(&line);
	}
}

void report_open_log(struct log *log, const struct settings *settings)
{
	struct report_line line;
	const char *error;

	if (!log_open(log, &error))
		return;
	if (error) {
		report_begin(&line, log, LOG_LEVEL_ERROR, "log");
		report_text(&line, "target", settings_text(settings, SETTING_LOG));
		report_text(&line, "error", error);
		report_text(&line, "using", log_fallback(log));
		report_send(&line);
	}
	report_settings(log, settings);
}
